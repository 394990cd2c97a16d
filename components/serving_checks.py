"""What a served model must do: a function a promise, which raises `UnfitError` in words where it is not kept.

TensorFlow and NumPy only: `serving_probe` runs these in a process that stands for a model server.
"""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.served_model import (
    CLASSES_ASSET,
    EXAMPLES_SIGNATURE,
    IMAGE_FEATURE,
    IMAGES_SIGNATURE,
    LABELS_SIGNATURE,
    ServedModel,
    example_of,
    first_line,
)

TOLERANCE = 1e-3
"""Largest difference between two probabilities that should be the same; kernels differ with the batch size."""

BOMB_MB = 1024
"""MB by which one small file that decodes to 100 megapixels may grow the process."""

_ANSWER = {"probabilities": tf.float32, "classes": tf.string, "label": tf.string, "probability": tf.float32}
_SIGNATURES = {
    EXAMPLES_SIGNATURE: ("examples", _ANSWER),
    IMAGES_SIGNATURE: ("images", _ANSWER),
    LABELS_SIGNATURE: ("examples", {"label_xf": tf.int64}),
}


class UnfitError(Exception):
    """What a check found wrong, in words."""


def files_are_sound(model_dir: str) -> str:
    """Reads every byte; the checkpoint's reader verifies the checksum of every variable."""
    if not tf.io.gfile.exists(f"{model_dir}/saved_model.pb"):
        raise UnfitError(f"there is no saved_model.pb in {model_dir}")
    count = size = 0
    for folder, _, names in tf.io.gfile.walk(model_dir):
        for name in names:
            with tf.io.gfile.GFile(f"{folder}/{name}", "rb") as file:
                while block := file.read(1 << 20):
                    size += len(block)
            count += 1
    if tf.io.gfile.exists(f"{model_dir}/variables"):
        variables = tf.train.load_checkpoint(f"{model_dir}/variables/variables")
        for name in variables.get_variable_to_shape_map():
            value = variables.get_tensor(name)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UnfitError(f"the variable {name} is not finite")
    return f"{count} files, {size / 2**20:.1f} MB"


def has_signatures(model: ServedModel) -> None:
    """The three signatures have the inputs and outputs that clients and TFMA rely on."""
    for name, (feed, outputs) in _SIGNATURES.items():
        if name not in model.signatures:
            raise UnfitError(f"there is no signature {name}; the model has {', '.join(sorted(model.signatures))}")
        signature = model.signatures[name]
        if set(signature.inputs) != {feed} or signature.inputs[feed].dtype != tf.string.as_datatype_enum:
            raise UnfitError(f"{name} takes {', '.join(sorted(signature.inputs))} instead of strings named {feed}")
        for output, dtype in outputs.items():
            if output not in signature.outputs or signature.outputs[output].dtype != dtype.as_datatype_enum:
                raise UnfitError(f"{name} has no output {output} of type {dtype.name}")


def class_names_fit(model: ServedModel, image: bytes) -> str:
    """The class names it answers are distinct and those of its asset, in the same order."""
    asset = model.class_names()
    served = [name.decode() for name in model.request(IMAGES_SIGNATURE, [image])["classes"][0]]
    if len(set(served)) != len(served):
        raise UnfitError(f"names are repeated: {', '.join(sorted({n for n in served if served.count(n) > 1}))}")
    if served != asset:
        raise UnfitError(f"the model answers {', '.join(served)}; its asset {CLASSES_ASSET} has {', '.join(asset)}")
    return f"{len(served)} classes"


def answers_single_requests(model: ServedModel, images: Sequence[bytes]) -> str:
    """Each image, sent alone, gets finite probabilities that sum to 1, and the class that is most probable."""
    for number, image in enumerate(images, 1):
        answer = model.request(IMAGES_SIGNATURE, [image])
        probabilities = answer["probabilities"]
        if probabilities.shape != answer["classes"].shape or probabilities.shape[0] != 1:
            raise UnfitError(
                f"one image got probabilities {probabilities.shape} and classes {answer['classes'].shape} "
                "instead of both [1, classes]"
            )
        if not np.isfinite(probabilities).all():
            raise UnfitError(f"image {number} got probabilities that are not finite: {probabilities[0].tolist()}")
        if abs(probabilities.sum() - 1) > TOLERANCE:
            raise UnfitError(f"the probabilities of image {number} sum to {probabilities.sum():.4f}")
        best = int(probabilities[0].argmax())
        if answer["label"][0] != answer["classes"][0, best] or answer["probability"][0] != probabilities[0, best]:
            raise UnfitError(f"label or probability of image {number} are not those of its most probable class")
    return f"images: {len(images)}"


def signatures_agree(model: ServedModel, images: Sequence[bytes]) -> str:
    """An image gets the same probabilities as a file and inside a tf.Example."""
    by_image = model.request(IMAGES_SIGNATURE, images)["probabilities"]
    by_example = model.request(EXAMPLES_SIGNATURE, [example_of(image) for image in images])["probabilities"]
    return _same(by_image, by_example, f"{IMAGES_SIGNATURE} and {EXAMPLES_SIGNATURE}")


def batch_agrees(model: ServedModel, images: Sequence[bytes]) -> str:
    """An image gets the same probabilities alone and among others."""
    batch = (list(images) * 2)[: max(2, len(images))]
    together = model.request(IMAGES_SIGNATURE, batch)["probabilities"][:2]
    alone = [model.request(IMAGES_SIGNATURE, [image])["probabilities"][0] for image in batch[:2]]
    return _same(np.stack(alone), together, f"alone and in a batch of {len(batch)}")


def bears_empty_batch(model: ServedModel) -> str:
    """No images get no answers, or are refused as the client's error.

    The right model may refuse: with oneDNN, TensorFlow's fused convolutions fail on an empty batch (TF 2.15.1, x86).
    """
    for name in (IMAGES_SIGNATURE, EXAMPLES_SIGNATURE):
        try:
            answer = model.request(name, [])
        except tf.errors.InvalidArgumentError as error:
            return f"refused: {first_line(error)}"
        for output, value in answer.items():
            if value.shape[0] != 0:
                raise UnfitError(f"{name}: {output} has shape {value.shape} for no images")
    return "answered"


def hostile_requests() -> Iterator[tuple[str, str, bytes]]:
    """What a server meets that is no image: (description, signature, the one value of the request)."""
    random = np.random.default_rng(0)
    # ASCII: TensorFlow's Python session cannot raise an error whose message quotes bytes that are not UTF-8.
    noise = random.integers(ord(" "), ord("~"), 64, dtype=np.uint8).tobytes()
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, png = tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()
    damaged = {
        "empty bytes": b"",
        "text": b"this is not an image\n",
        "random bytes": noise,
        "a truncated JPEG": jpeg[: len(jpeg) // 2],
        "a truncated PNG": png[: len(png) // 2],
        "a PNG header of 3600 megapixels": _png(60_000, 60_000, b"\0" * 1000),
    }
    for name, value in damaged.items():
        yield name, IMAGES_SIGNATURE, value
        yield f"a tf.Example with {name}", EXAMPLES_SIGNATURE, example_of(value)
    yield "random bytes as tf.Example", EXAMPLES_SIGNATURE, noise
    yield f"a tf.Example without {IMAGE_FEATURE}", EXAMPLES_SIGNATURE, tf.train.Example().SerializeToString()


def refuses(model: ServedModel, signature: str, value: bytes) -> str:
    """The value is refused as the client's error: TensorFlow Serving tells InvalidArgument from faults of its own."""
    try:
        model.request(signature, [value])
    except tf.errors.InvalidArgumentError as error:
        return first_line(error)
    raise UnfitError("it was answered as if it were an image")


def bounds_memory(model: ServedModel) -> str:
    """A file of kilobytes that decodes to 100 megapixels is refused, or answered within `BOMB_MB`."""
    bomb = _png(10_000, 10_000, b"\0" * (1 + 10_000 // 8) * 10_000)
    before = peak_rss_mb()
    try:
        model.request(IMAGES_SIGNATURE, [bomb])
        outcome = "answered"
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
        outcome = f"refused: {first_line(error)}"
    grown = peak_rss_mb() - before
    if grown > BOMB_MB:
        raise UnfitError(f"a PNG of {len(bomb)} bytes and 100 megapixels took {grown:.0f} MB, more than {BOMB_MB}")
    return f"{outcome}, {grown:.0f} MB more"


def peak_rss_mb() -> float:
    """The most memory this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts the parent at the time of the fork (getrusage(2), Linux)
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 1024, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _same(first: np.ndarray, second: np.ndarray, what: str) -> str:
    if first.shape != second.shape:
        raise UnfitError(f"{what}: shapes {first.shape} and {second.shape}")
    difference = float(np.abs(first - second).max())
    if not difference <= TOLERANCE:
        raise UnfitError(f"{what}: probabilities differ by {difference:.4g}, more than {TOLERANCE}")
    return f"largest difference {difference:.2g}"


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A black and white PNG that claims `width` x `height`; a row is a filter byte and the pixels' bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
