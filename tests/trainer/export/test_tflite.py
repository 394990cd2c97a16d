"""The real network converted: the same classes from the same pixels, in half and in a quarter of the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core import signatures
from tests.trainer import training_data
from trainer.export.tflite import Converter

IMAGES = [training_data.image(name, 500 + i) for i in range(4) for name in training_data.CLASSES]


@pytest.fixture(scope="module")
def converter(frozen_run: Path) -> Converter:
    return Converter(str(frozen_run / "Format-Serving"), [*IMAGES, b"no image"])


@pytest.fixture(scope="module")
def expected(frozen_run: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the SavedModel reads of the images, and its probabilities."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(frozen_run / "Format-Serving"))
        maps, images = (meta.signature_def[name] for name in (signatures.MAPS, signatures.IMAGES))
        fetched = maps.outputs["pixels"].name, images.outputs["probabilities"].name
        return session.run(fetched, {images.inputs["images"].name: IMAGES})


def answer(model: bytes, pixels: np.ndarray) -> np.ndarray:
    interpreter = tf.lite.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (taken["name"], taken["dtype"], taken["shape"].tolist()) == ("pixels", np.float32, [1, 75, 75, 3])
    assert (given["name"], given["dtype"], given["shape"].tolist()) == ("probabilities", np.float32, [1, 3])
    found = []
    for image in pixels:
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return np.array(found)


def test_half_precision_changes_no_probability_by_a_hundredth(
    converter: Converter, expected: tuple[np.ndarray, np.ndarray], frozen_run: Path
) -> None:
    made = converter.convert("tflite-float16")
    np.testing.assert_allclose(answer(made, expected[0]), expected[1], atol=0.01)
    weights = (frozen_run / "Format-Serving" / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert len(made) == pytest.approx(weights / 2, rel=0.1)


def test_integers_are_calibrated_on_what_can_be_read_and_the_head_stays_in_float32(
    converter: Converter, expected: tuple[np.ndarray, np.ndarray], frozen_run: Path
) -> None:
    made = converter.convert("tflite-int8")
    found = answer(made, expected[0])
    assert converter.calibrated_on == len(IMAGES) and converter.image_size == 75
    assert (found.argmax(1) == expected[1].argmax(1)).mean() > 0.8
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)  # steps of 1/256 would miss it by more
    weights = (frozen_run / "Format-Serving" / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert len(made) < 0.3 * weights
