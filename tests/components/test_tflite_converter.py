"""TFLiteConverter: the model goes on with its files, which say what they need and are covered by its checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model

from components.serving.tflite_model import TFLiteModel
from components.tflite_converter import TFLiteConverter
from core import checksums, signatures
from core.artifacts import tflite_archive, tflite_files
from core.errors import MachineError
from tests.model_factory import COLORS, example, image_bytes, save_model, write_examples
from tests.small_model import flip


def convert(folder: Path, source: Path) -> Path:
    """The folder of the converted model; `source` is an artifact's."""
    model, converted, examples = Model(), Model(), Examples()
    model.uri, converted.uri, examples.uri = str(source), str(folder / "converted"), str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train"])
    made = [example(image_bytes(i % 3, seed=i), COLORS[i % 3]) for i in range(6)]
    write_examples(folder / "examples", "train", [*made, example(b"no image", "red")])
    TFLiteConverter.test_call(
        model=model, examples=examples, converted=converted, formats='["tflite-float16", "tflite-int8"]'
    )
    return folder / "converted" / "Format-Serving"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tflite")
    save_model(folder / "model" / "Format-Serving")
    return convert(folder, folder / "model")


def test_the_model_goes_on_as_it_was_with_a_file_for_each_format(converted: Path) -> None:
    assert checksums.verify(str(converted))
    assert {"saved_model.pb", "float16.tflite", "int8.tflite"} <= set(checksums.digests(str(converted)))
    half, integers = tflite_files.described(str(converted))
    assert (half.format, half.file, half.calibrated_on) == ("tflite-float16", "float16.tflite", 0)
    assert (integers.format, integers.file, integers.calibrated_on) == ("tflite-int8", "int8.tflite", 6)
    for one in (half, integers):
        assert one.bytes == (converted / one.file).stat().st_size and one.latency_ms >= 0


@pytest.mark.parametrize("name", ["float16.tflite", "int8.tflite"])
def test_a_file_answers_with_the_models_classes_and_an_image_that_it_cannot_read_spoils_no_other(
    converted: Path, name: str
) -> None:
    with TFLiteModel(str(converted / name)) as model:
        found = model.request(signatures.IMAGES, [image_bytes(2), b"no image", image_bytes(0, format="PNG")])
    assert found["classes"].tolist() == [[b"red", b"green", b"blue"]] * 3
    assert found["probabilities"].argmax(1)[[0, 2]].tolist() == [2, 0] and not found["probabilities"][1].any()
    np.testing.assert_allclose(found["probabilities"].sum(1), [1, 0, 1], atol=1e-3)
    assert [bool(error) for error in found["error"]] == [False, True, False]


def test_what_it_takes_to_use_a_file_can_be_unzipped_from_it(converted: Path) -> None:
    with zipfile.ZipFile(converted / "int8.tflite") as archive:
        assert archive.read("labels.txt") == b"red\ngreen\nblue\n"
    _, classes, preprocessing = tflite_archive.read(str(converted / "int8.tflite"))
    assert classes == list(COLORS) and preprocessing.image_size == 8
    assert 255 * preprocessing.scale + preprocessing.offset == pytest.approx(1)


@pytest.mark.parametrize("damage", ["flipped", "cut", "foreign", "archive"])
def test_a_damaged_file_is_refused(converted: Path, tmp_path: Path, damage: str) -> None:
    content = (converted / "int8.tflite").read_bytes()
    changed = {
        "flipped": content[:100] + bytes([content[100] ^ 1]) + content[101:],
        "cut": content[:-1000],
        "foreign": b"text",
        "archive": content.replace(b"model_sha256", b"model_sha255"),
    }
    path = tmp_path / "int8.tflite"
    path.write_bytes(changed[damage])
    with pytest.raises(checksums.DamagedModelError, match=r"damaged|cut short"):
        tflite_archive.read(str(path))


def test_a_damaged_model_does_not_get_new_checksums(tmp_path: Path) -> None:
    flip(save_model(tmp_path / "model" / "Format-Serving"), "assets/classes.txt")
    with pytest.raises(MachineError, match=r"classes.txt is damaged"):
        convert(tmp_path, tmp_path / "model")
