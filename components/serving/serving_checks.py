"""What a served model must do: a function a promise, which raises `UnfitError` in words where it is not kept.

They are asked over gRPC, as any client of TensorFlow Serving asks; `serving_probe` runs them.
"""

from __future__ import annotations

import itertools
import math
import resource
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.serving.model_client import RemoteModel
from components.serving.served_model import AnsweringModel, errors_of, example_of, first_line
from core import signatures
from core.artifacts.exported_model import CLASSES_ASSET
from core.image_limits import ImageLimits
from core.settings.server import ServerLimits
from trainer.export import checksums

TOLERANCE = 1e-3
"""Largest difference between two probabilities that should be the same; kernels differ with the batch size."""

PIXEL_BYTES = 16
"""By which a small file of as many pixels as are decoded may grow the process, for each of them."""

_ALLOWED_MB = 256  # whatever the pixels: allocators keep what they had
_AT_ONCE = 4
_BESIDE_BYTES = 128  # of a request, for each picture: a tf.Example's and protobuf's

_SCORES = {"classes": tf.string, "scores": tf.float32}
_ANSWER = {
    "probabilities": tf.float32,
    "classes": tf.string,
    "label": tf.string,
    "probability": tf.float32,
    signatures.ERROR: tf.string,
}
_SIGNATURES = {
    signatures.EXAMPLES: ("examples", _ANSWER),
    signatures.IMAGES: ("images", _ANSWER),
    signatures.CLASSIFY: ("inputs", _SCORES),
    signatures.LABELS: ("examples", {"label_xf": tf.int64}),
}


class UnfitError(Exception):
    """What a check found wrong, in words."""


def fitting(images: Sequence[bytes], most: int, limits: ServerLimits) -> list[bytes]:
    """The images in turn, over and over: `most` of them, or as many as one request may hold, the first in any case."""
    batch: list[bytes] = []
    room = limits.image_bytes
    for image in itertools.islice(itertools.cycle(images), most):
        room -= len(image) + _BESIDE_BYTES
        if batch and room < 0:
            break
        batch.append(image)
    return batch


def fit_three(images: Sequence[bytes], limits: ServerLimits) -> list[bytes]:
    """The images of which three fit in one request; a small one made here, if there are none."""
    return [image for image in images if len(fitting([image], 3, limits)) == 3] or [_black_png(64)]


def files_are_sound(model_dir: str) -> str:
    """Reads every byte, compares it with the checksums of the export, and finds no variable that is not finite."""
    try:
        verified = checksums.verify(model_dir)
    except checksums.DamagedModelError as damage:
        raise UnfitError(str(damage)) from damage
    if tf.io.gfile.exists(f"{model_dir}/variables"):
        variables = tf.train.load_checkpoint(f"{model_dir}/variables/variables")
        for name in variables.get_variable_to_shape_map():
            value = variables.get_tensor(name)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise UnfitError(f"the variable {name} is not finite")
    size = sum(tf.io.gfile.stat(f"{model_dir}/{name}").length for name in checksums.files(model_dir))
    return f"{verified}, {size / 2**20:.1f} MB"


def is_available(model: RemoteModel) -> str:
    """The server says of the model what TensorFlow Serving says of one that serves."""
    states = model.states()
    if set(states.values()) != {"AVAILABLE"}:
        raise UnfitError(f"the versions' states are {states}")
    return f"version {', '.join(map(str, states))}"


def has_signatures(model: AnsweringModel) -> None:
    """The signatures have the inputs and outputs that clients and TFMA rely on."""
    for name, (feed, outputs) in _SIGNATURES.items():
        if name not in model.signatures:
            raise UnfitError(f"there is no signature {name}; the model has {', '.join(sorted(model.signatures))}")
        signature = model.signatures[name]
        if set(signature.inputs) != {feed} or signature.inputs[feed].dtype != tf.string.as_datatype_enum:
            raise UnfitError(f"{name} takes {', '.join(sorted(signature.inputs))} instead of strings named {feed}")
        for output, dtype in outputs.items():
            if output not in signature.outputs or signature.outputs[output].dtype != dtype.as_datatype_enum:
                raise UnfitError(f"{name} has no output {output} of type {dtype.name}")


def class_names_fit(model: AnsweringModel, asset: Sequence[str], image: bytes) -> str:
    """The class names it answers are distinct and those of its asset, in the same order."""
    served = [name.decode() for name in model.request(signatures.IMAGES, [image])["classes"][0]]
    if len(set(served)) != len(served):
        raise UnfitError(f"names are repeated: {', '.join(sorted({n for n in served if served.count(n) > 1}))}")
    if served != list(asset):
        raise UnfitError(f"the model answers {', '.join(served)}; its asset {CLASSES_ASSET} has {', '.join(asset)}")
    return f"{len(served)} classes"


def answers_single_requests(model: AnsweringModel, images: Sequence[bytes]) -> str:
    """Each image, sent alone, gets finite probabilities that sum to 1, and the class that is most probable."""
    for number, image in enumerate(images, 1):
        answer = model.request(signatures.IMAGES, [image])
        probabilities = answer["probabilities"]
        if any(errors_of(answer)):
            raise UnfitError(f"image {number} was not read: {errors_of(answer)[0]}")
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


def signatures_agree(model: RemoteModel, images: Sequence[bytes]) -> str:
    """An image gets the same probabilities as a file, inside a tf.Example, and from Classify; all in one request."""
    examples = [example_of(image) for image in images]
    by_image = model.request(signatures.IMAGES, images)
    by_example = model.request(signatures.EXAMPLES, examples)["probabilities"]
    _same(by_image["probabilities"], by_example, f"{signatures.IMAGES} and {signatures.EXAMPLES}")
    scores = model.classify(signatures.CLASSIFY, examples)
    names = [name.decode() for name in by_image["classes"][0]]
    if any(list(score) != names for score in scores):
        raise UnfitError(f"Classify gives the classes {', '.join(scores[0])}, Predict {', '.join(names)}")
    scored = np.array([list(score.values()) for score in scores])
    return _same(by_example, scored, f"{signatures.EXAMPLES} and Classify")


def batch_agrees(model: AnsweringModel, images: Sequence[bytes], limits: ServerLimits) -> str:
    """An image gets the same probabilities alone and among others, as far as several fit in one request."""
    batch = fitting(images, max(2, len(images)), limits)
    together = model.request(signatures.IMAGES, batch)["probabilities"][:2]
    alone = [model.request(signatures.IMAGES, [image])["probabilities"][0] for image in batch[:2]]
    return _same(np.stack(alone), together, f"alone and in a batch of {len(batch)}")


def bears_requests_at_once(model: AnsweringModel, images: Sequence[bytes], limits: ServerLimits) -> str:
    """Requests of several clients get the answers they get one after the other."""
    # half of what the server takes in: an answered request may count a moment longer
    at_once = min(_AT_ONCE, (limits.concurrent + limits.waiting) // 2)
    many = (list(images) * _AT_ONCE)[: 2 * _AT_ONCE]
    alone = [model.request(signatures.IMAGES, [image])["probabilities"] for image in images]
    with futures.ThreadPoolExecutor(at_once) as pool:
        together = list(pool.map(lambda image: model.request(signatures.IMAGES, [image])["probabilities"], many))
    wanted = [alone[i % len(images)] for i in range(len(many))]
    return _same(np.concatenate(wanted), np.concatenate(together), f"alone and {at_once} at a time")


def bears_empty_batch(model: AnsweringModel) -> str:
    """No images get no answers, or are refused as the client's error.

    The right model may refuse: with oneDNN, TensorFlow's fused convolutions fail on an empty batch (TF 2.15.1, x86).
    """
    for name in (signatures.IMAGES, signatures.EXAMPLES):
        try:
            answer = model.request(name, [])
        except tf.errors.InvalidArgumentError as error:
            return f"refused: {first_line(error)}"
        for output, value in answer.items():
            if value.shape[0] != 0:
                raise UnfitError(f"{name}: {output} has shape {value.shape} for no images")
    return "answered"


def bad_pictures(limits: ImageLimits) -> Iterator[tuple[str, bytes]]:
    """What a server meets in the place of a picture, one over the model's limits too: a description and the bytes."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, png = tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()
    yield "empty bytes", b""
    yield "text", b"this is not an image\n"
    yield "random bytes", random.bytes(64)
    yield "a truncated JPEG", jpeg[: len(jpeg) // 2]
    yield "a truncated PNG", png[: len(png) // 2]
    yield "a PNG header of 3600 megapixels", _png(60_000, 60_000, b"\0" * 1000)
    side = math.isqrt(limits.pixels) + 1
    yield f"a PNG of {side} x {side} pixels, more than allowed", _black_png(side)


def tells_a_bad_picture(model: AnsweringModel, signature: str, bad: bytes, images: Sequence[bytes]) -> str:
    """Among good pictures, a bad one gets an error and no class, and the good ones the answers they get without it."""
    wrap = example_of if signature == signatures.EXAMPLES else bytes
    good = [images[0], images[-1]]
    wanted = model.request(signature, [wrap(image) for image in (good[0], good[0], good[1])])
    try:
        answer = model.request(signature, [wrap(image) for image in (good[0], bad, good[1])])
    except tf.errors.OpError as refusal:
        raise UnfitError(f"the whole request was refused: {first_line(refusal)}") from refusal
    first, error, last = errors_of(answer)
    if not error:
        raise UnfitError("it was answered as if it were an image")
    if first or last:
        raise UnfitError(f"a good image beside it was not read: {first or last}")
    if answer["label"][1] or answer["probabilities"][1].any():
        raise UnfitError(f"it was refused, {error}, but got the class {answer['label'][1].decode()!r}")
    _same(wanted["probabilities"][[0, 2]], answer["probabilities"][[0, 2]], "good images without it and beside it")
    return error


def refuses_what_is_no_example(model: AnsweringModel) -> str:
    """Bytes that are no tf.Example are the client's error: TensorFlow Serving tells such from faults of its own."""
    try:
        model.request(signatures.EXAMPLES, [b"no tf.Example"])
    except tf.errors.InvalidArgumentError as error:
        return first_line(error)
    raise UnfitError("it was answered as if it were a tf.Example")


def answers_full_batch(model: AnsweringModel, images: Sequence[bytes], limits: ServerLimits) -> str:
    """As many images as a request may have, by their number or by their bytes, are all answered."""
    batch = fitting(images, limits.max_batch, limits)
    errors = errors_of(model.request(signatures.IMAGES, batch))
    if len(errors) != len(batch) or any(errors):
        raise UnfitError(f"{len(batch)} good images got {len(errors)} answers, {sum(map(bool, errors))} of them errors")
    full = "" if len(batch) == limits.max_batch else f", of the {limits.max_message_mb} MB that a request may have"
    return f"images: {len(batch)}{full}"


def refuses_too_many_images(model: AnsweringModel, most: int) -> str:
    """One image more is the client's error, however small they are."""
    try:
        model.request(signatures.IMAGES, [_black_png(1)] * (most + 1))
    except tf.errors.InvalidArgumentError as error:
        return first_line(error)
    raise UnfitError(f"{most + 1} images were answered")


def refuses_too_large_a_request(model: AnsweringModel, limits: ServerLimits) -> str:
    """A request of more bytes than allowed is refused before it is read."""
    try:
        model.request(signatures.IMAGES, [bytes(limits.message_bytes)])
    except tf.errors.ResourceExhaustedError as error:
        return first_line(error)
    raise UnfitError(f"a request of more than {limits.max_message_mb} MB was answered")


def bounds_memory(model: AnsweringModel, limits: ImageLimits) -> str:
    """A file of kilobytes that decodes to as many pixels as allowed is answered within `PIXEL_BYTES` for each."""
    side = math.isqrt(limits.pixels)
    picture = _black_png(side)
    allowed = max(_ALLOWED_MB, PIXEL_BYTES * limits.pixels / 2**20)
    before = peak_rss_mb()
    error = errors_of(model.request(signatures.IMAGES, [picture]))[0]
    grown = peak_rss_mb() - before
    if grown > allowed:
        raise UnfitError(
            f"a PNG of {len(picture)} bytes and {side} x {side} pixels took {grown:.0f} MB: {allowed:.0f} at most"
        )
    return f"{error or 'answered'}, {grown:.0f} MB more"


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


def _black_png(side: int) -> bytes:
    return _png(side, side, b"\0" * (1 + (side + 7) // 8) * side)


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A black and white PNG that claims `width` x `height`; a row is a filter byte and the pixels' bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
