"""What a served model must do: each check is a method that raises `UnfitError`, in words, if the model fails it.

Requests go over gRPC, as from any client of TensorFlow Serving; `serving_probe` runs the checks.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.serving.model_client import RemoteModel
from components.serving.served_model import TOLERANCE, errors_of, first_line
from core import checksums, signatures
from core.artifacts.exported_model import CLASSES_ASSET, checkpoint
from core.errors import some
from core.examples import IMAGE
from core.image_limits import ImageLimits
from core.settings.serving import ServerLimits
from trainer.images.tolerant_decoding import claimed_pixels

_PIXEL_BYTES = 16  # of memory for each pixel of a small file with as many as are decoded
_ALLOWED_MB = 256  # of memory, whatever the pixels: allocators keep what they had
_AT_ONCE = 4
_BESIDE_BYTES = 128  # of a request, for each image: a tf.Example's and protobuf's

_INVALID = tf.errors.InvalidArgumentError

_SCORES = {"classes": tf.string, "scores": tf.float32}
_PREDICTION = {
    "probabilities": tf.float32,
    "classes": tf.string,
    "label": tf.string,
    "probability": tf.float32,
    signatures.NOVELTY: tf.float32,
    signatures.REASON: tf.string,
    signatures.ERROR: tf.string,
}
_SIGNATURES = {
    signatures.EXAMPLES: ("examples", _PREDICTION),
    signatures.IMAGES: ("images", _PREDICTION),
    signatures.CLASSIFY: ("inputs", _SCORES),
    signatures.LABELS: ("examples", {"label_xf": tf.int64}),
}


class UnfitError(Exception):
    """What a check found wrong, in words."""


def fitting(images: Sequence[bytes], most: int, limits: ServerLimits) -> list[bytes]:
    """Repeats the images in turn up to `most`, or up to the limits of a request; at least the first."""
    batch: list[bytes] = []
    room, pixels = limits.image_bytes, limits.pixels
    for image in itertools.islice(itertools.cycle(images), min(most, limits.max_batch)):
        room -= len(image) + _BESIDE_BYTES
        pixels -= claimed_pixels(image)
        if batch and min(room, pixels) < 0:
            break
        batch.append(image)
    return batch


def fit_three(images: Sequence[bytes], limits: ServerLimits) -> list[bytes]:
    """The images small enough that three fit in one request; if there are none, a small one made here."""
    return [image for image in images if len(fitting([image], 3, limits)) == 3] or [_black_png(64)]


def files_are_sound(model_dir: str) -> str:
    """All files match the export's checksums, and all variables are finite."""
    verified = checksums.verify(model_dir)
    if tf.io.gfile.exists(f"{model_dir}/variables"):
        variables = tf.train.load_checkpoint(checkpoint(model_dir))
        for name in variables.get_variable_to_shape_map():
            value = variables.get_tensor(name)
            _require(value.dtype.kind != "f" or np.isfinite(value).all(), f"the variable {name} is not finite")
    return verified


@dataclasses.dataclass(frozen=True)
class ServingChecks:
    """The checks of a model that is served.

    Attributes:
        images: real encoded images, at least one; each fits in one request.
        alone: the results of images that were sent alone, which they must also get in every other way.
    """

    model: RemoteModel
    images: Sequence[bytes]
    limits: ServerLimits
    image_limits: ImageLimits
    alone: dict[bytes, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def is_available(self) -> str:
        """The server reports the model's status like TensorFlow Serving does for a model that serves."""
        states = self.model.states()
        _require(set(states.values()) == {"AVAILABLE"}, f"the versions' states are {states}")
        return f"version {', '.join(map(str, states))}"

    def has_signatures(self) -> None:
        """The signatures have the inputs and outputs that clients and TFMA rely on."""
        found = self.model.signatures
        for name, (feed, outputs) in _SIGNATURES.items():
            _require(name in found, f"there is no signature {name}; the model has {', '.join(sorted(found))}")
            inputs = {key: tf.as_dtype(tensor.dtype) for key, tensor in found[name].inputs.items()}
            _require(
                inputs == {feed: tf.string}, f"{name} takes {', '.join(sorted(inputs))} instead of strings named {feed}"
            )
            given = {key: tf.as_dtype(tensor.dtype) for key, tensor in found[name].outputs.items()}
            for output, dtype in outputs.items():
                _require(given.get(output) == dtype, f"{name} has no output {output} of type {dtype.name}")

    def class_names_fit(self, asset: Sequence[str]) -> str:
        """The class names in responses are distinct and those of the model's asset, in the same order."""
        served = self._class_names()
        repeated = sorted({name for name in served if served.count(name) > 1})
        _require(not repeated, f"names are repeated: {some(repeated)}")
        _require(
            served == list(asset),
            f"the model's classes are {some(served)}; its asset {CLASSES_ASSET} has {some(asset)}",
        )
        return f"{len(served)} classes"

    def predicts_single_images(self) -> str:
        """Each image sent alone gets finite probabilities that sum to 1 and the most probable class, or a reason."""
        for number, image in enumerate(self.images, 1):
            response = self._alone(image)
            probabilities, classes = response["probabilities"], response["classes"]
            error, total = errors_of(response)[0], probabilities.sum()
            _require(not error, f"image {number} was not read: {error}")
            _require(
                probabilities.shape == classes.shape and len(classes) == 1,
                f"one image got probabilities {probabilities.shape} and classes {classes.shape}, not both [1, classes]",
            )
            shown = some([f"{value:g}" for value in probabilities[0]])
            _require(np.isfinite(total), f"image {number} got probabilities that are not finite: {shown}")
            _require(abs(total - 1) <= TOLERANCE, f"the probabilities of image {number} sum to {total:.4f}")
            best = int(probabilities[0].argmax())
            label, reason, novelty = (response[name][0] for name in ("label", signatures.REASON, signatures.NOVELTY))
            _require(
                label == (b"" if reason else classes[0, best]) and response["probability"][0] == probabilities[0, best],
                f"label or probability of image {number} are not those of its most probable class",
            )
            _require(0 <= novelty <= 1, f"the novelty of image {number} is {novelty:g}, not in [0, 1]")
        return f"images: {len(self.images)}"

    def signatures_agree(self) -> str:
        """An image gets the same probabilities as a file, inside a tf.Example, and from Classify."""
        images = fitting(self.images, min(2, len(self.images)), self.limits)
        examples = [_example(image) for image in images]
        by_example = self.model.request(signatures.EXAMPLES, examples)["probabilities"]
        _same(self._wanted(images), by_example, f"{signatures.IMAGES} and {signatures.EXAMPLES}")
        scores = self.model.classify(signatures.CLASSIFY, examples)
        names = self._class_names()
        _require(
            all(list(score) == names for score in scores),
            f"Classify gives the classes {some(list(scores[0]))}, Predict {some(names)}",
        )
        scored = np.array([list(score.values()) for score in scores])
        return _same(by_example, scored, f"{signatures.EXAMPLES} and Classify")

    def serves_concurrent_requests(self) -> str:
        """Concurrent requests of several clients get the same responses as sequential ones."""
        # half of what the server takes in: a request may count a moment longer than its response takes
        at_once = min(_AT_ONCE, (self.limits.concurrent + self.limits.waiting) // 2)
        many = (list(self.images) * _AT_ONCE)[: 2 * _AT_ONCE]
        with futures.ThreadPoolExecutor(at_once) as pool:
            responses = list(pool.map(lambda image: self._predict([image]), many))
        together = np.concatenate([response["probabilities"] for response in responses])
        return _same(self._wanted(many), together, f"alone and {at_once} at a time")

    def takes_empty_batch(self) -> str:
        """No images get no predictions, or are refused as the client's error.

        A good model may refuse: with oneDNN, TensorFlow's fused convolutions fail on an empty batch (TF 2.15.1, x86).
        """
        for name in (signatures.IMAGES, signatures.EXAMPLES):
            try:
                response = self.model.request(name, [])
            except _INVALID as error:
                return f"refused: {first_line(error)}"
            for output, value in response.items():
                _require(len(value) == 0, f"{name}: {output} has shape {value.shape} for no images")
        return "accepted"

    @functools.cached_property
    def bad_images(self) -> dict[str, bytes]:
        """What is sent in place of an image, including one over the model's limits: descriptions and bytes."""
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        jpeg, png = tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()
        side = math.isqrt(self.image_limits.pixels) + 1
        return {
            "empty bytes": b"",
            "text": b"this is not an image\n",
            "random bytes": random.bytes(64),
            "a truncated JPEG": jpeg[: len(jpeg) // 2],
            "a truncated PNG": png[: len(png) // 2],
            "a PNG header of 3600 megapixels": _png(60_000, 60_000, b"\0" * 1000),
            f"a PNG of {side} x {side} pixels, more than allowed": _black_png(side),
        }

    def reports_bad_images(self, signature: str) -> str:
        """Among good images, each bad one gets an error and no class, and the good ones get the same as alone."""
        fits = fit_three(self.images, self.limits)
        beside = [fits[0], fits[-1]][: self.limits.max_batch - 1]
        errors: dict[str, str] = {}
        names = list(self.bad_images)
        step = self.limits.max_batch - len(beside)
        for start in range(0, len(names), step):
            errors |= self._bad_among_good(signature, names[start : start + step], beside)
        return "; ".join(f"{name}: {error}" for name, error in errors.items())

    def predicts_full_batch(self) -> str:
        """As many images as a request may have, by number or by bytes, get the same as alone."""
        batch = fitting(self.images, self.limits.max_batch, self.limits)
        response = self._predict(batch)
        errors = errors_of(response)
        _require(
            errors == [""] * len(batch),
            f"{len(batch)} good images got {len(errors)} predictions, {sum(map(bool, errors))} of them errors",
        )
        agreement = _same(self._wanted(batch), response["probabilities"], f"alone and in a batch of {len(batch)}")
        full = len(batch) == self.limits.max_batch
        most = f"{self.limits.max_message_mb} MB and {self.limits.max_megapixels:,} megapixels"
        limit = "" if full else f", of the {most} that a request may have"
        return f"images: {len(batch)}{limit}; {agreement}"

    def bad_requests(self) -> Iterator[tuple[str, type[Exception], str, list[bytes]]]:
        """Requests that are the client's error: a description, the error, the signature and its input."""
        yield "no tf.Example", _INVALID, signatures.EXAMPLES, [b"no tf.Example"]
        yield "too many images", _INVALID, signatures.IMAGES, [_black_png(1)] * (self.limits.max_batch + 1)
        large = [bytes(self.limits.message_bytes)]
        yield "too large a request", tf.errors.ResourceExhaustedError, signatures.IMAGES, large

    def refuses_bad_request(self, expected: type[Exception], signature: str, values: Sequence[bytes]) -> str:
        """The entire request gets the error."""
        try:
            self.model.request(signature, values)
        except expected as error:
            return first_line(error)
        raise UnfitError("the server did not refuse it")

    def bounds_memory(self) -> str:
        """A file of kilobytes that decodes to as many pixels as allowed takes at most `_PIXEL_BYTES` per pixel."""
        side = math.isqrt(self.image_limits.pixels)
        image = _black_png(side)
        allowed = max(_ALLOWED_MB, _PIXEL_BYTES * self.image_limits.pixels / 2**20)
        before = peak_rss_mb()
        error = errors_of(self._predict([image]))[0]
        grown = peak_rss_mb() - before
        _require(
            grown <= allowed,
            f"a PNG of {len(image)} bytes and {side} x {side} pixels took {grown:.0f} MB: {allowed:.0f} at most",
        )
        return f"{error or 'classified'}, {grown:.0f} MB more"

    def still_predicts(self) -> str:
        """An image gets the same as at first."""
        image = self.images[0]
        return _same(self._wanted([image]), self._predict([image])["probabilities"], "at first and now")

    def _bad_among_good(self, signature: str, names: Sequence[str], beside: Sequence[bytes]) -> dict[str, str]:
        """Each bad image's error, from one request; only if that fails, one by one to find the culprits."""
        try:
            return self._errors(signature, {name: self.bad_images[name] for name in names}, beside)
        except UnfitError as finding:
            if len(names) == 1:
                raise UnfitError(f"{names[0]}: {finding}") from finding
            culprits = []
            for name in names:
                try:
                    self._bad_among_good(signature, [name], beside)
                except UnfitError as of_one:
                    culprits.append(str(of_one))
            raise UnfitError("; ".join(culprits) or str(finding)) from finding

    def _errors(self, signature: str, bad: Mapping[str, bytes], beside: Sequence[bytes]) -> dict[str, str]:
        """Sends bad images between two good ones, or after one."""
        wrap = _example if signature == signatures.EXAMPLES else bytes
        before, after = beside[:1], beside[1:]
        try:
            response = self.model.request(signature, [wrap(image) for image in (*before, *bad.values(), *after)])
        except tf.errors.OpError as refusal:
            raise UnfitError(f"the whole request was refused: {first_line(refusal)}") from refusal
        errors = errors_of(response)
        first = len(before)
        good = [*range(first), *range(first + len(bad), len(errors))]
        for number in good:
            _require(not errors[number], f"a good image beside it was not read: {errors[number]}")
        found = dict(zip(bad, errors[first:], strict=False))
        for number, error in enumerate(found.values(), first):
            _require(bool(error), "it was classified as if it were an image")
            label = response["label"][number].decode()
            _require(
                not label and not response["probabilities"][number].any(),
                f"it was refused, {error}, but got the class {label!r}",
            )
        if beside:
            _same(self._wanted(beside), response["probabilities"][good], "good images alone and beside it")
        return found

    def _predict(self, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        return self.model.request(signatures.IMAGES, images)

    def _alone(self, image: bytes) -> dict[str, np.ndarray]:
        """The response to a request with only this image, which is sent once."""
        if image not in self.alone:
            self.alone[image] = self._predict([image])
        return self.alone[image]

    def _wanted(self, images: Sequence[bytes]) -> np.ndarray:
        """The probabilities that the images get alone."""
        return np.concatenate([self._alone(image)["probabilities"] for image in images])

    def _class_names(self) -> list[str]:
        return [name.decode() for name in self._alone(self.images[0])["classes"][0]]


def peak_rss_mb() -> float:
    """This process's peak memory in MB; getrusage would include its parent's at the time of the fork."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 1024, 1)


def _example(image: bytes) -> bytes:
    """A tf.Example with nothing but the image, as an unlabeled request has it."""
    example = tf.train.Example()
    example.features.feature[IMAGE].bytes_list.value.append(image)
    return example.SerializeToString()


def _require(kept: bool, otherwise: str) -> None:
    if not kept:
        raise UnfitError(otherwise)


def _same(first: np.ndarray, second: np.ndarray, what: str) -> str:
    _require(first.shape == second.shape, f"{what}: shapes {first.shape} and {second.shape}")
    difference = float(np.abs(first - second).max())
    _require(difference <= TOLERANCE, f"{what}: probabilities differ by {difference:.4g}, more than {TOLERANCE}")
    return f"largest difference {difference:.2g}"


def _black_png(side: int) -> bytes:
    return _png(side, side, b"\0" * (1 + (side + 7) // 8) * side)


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A black and white PNG that claims `width` x `height`; a row is a filter byte and the pixels' bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
