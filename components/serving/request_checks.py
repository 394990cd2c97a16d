"""Checks requests before they reach a model: TensorFlow Serving's checks, and limits that it does not have."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.serving.request_size import Budget, TooLargeError, images_in
from components.serving.served_model import ServedModel
from core.image_limits import MAX_MEGAPIXELS
from core.settings.serving import ServerLimits
from trainer.images.tolerant_decoding import claimed_pixels

_FILES = "images"  # the input that takes image files; other inputs of strings take tf.Examples

invalid = functools.partial(tf.errors.InvalidArgumentError, None, None)
"""An error of the client's, from its message."""


def definition_for_predict(model: ServedModel, signature: str) -> Any:
    """The SignatureDef that Predict runs.

    Raises:
        tf.errors.FailedPreconditionError: the model has none of this name.
    """
    if signature not in model.signatures:
        raise tf.errors.FailedPreconditionError(None, None, f'Serving signature key "{signature}" not found.')
    return model.signatures[signature]


def definition_for_classify(model: ServedModel, signature: str) -> Any:
    """The SignatureDef that Classify runs, after the checks of classifier.cc.

    Raises:
        tf.errors.InvalidArgumentError: the model has none of this name, or one for another method.
    """
    if signature not in model.signatures:
        raise invalid(f"No signature was found with the name: {signature}")
    definition = model.signatures[signature]
    if definition.method_name != tf.saved_model.CLASSIFY_METHOD_NAME:
        raise invalid(
            "Expected classification signature method_name to be "
            f"{tf.saved_model.CLASSIFY_METHOD_NAME}. Was: {definition.method_name}"
        )
    return definition


def check_names(sent: Collection[str], definition: Any) -> None:
    """Raises InvalidArgumentError if the inputs are not the signature's, as predict_util.cc does."""
    given, wanted = set(sent), set(definition.inputs)
    if len(given) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(given - wanted)}. "
            f"Missing but required: {_set(wanted - given)}."
        )
    for name in sent:
        if name not in wanted:
            raise invalid(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {_set(wanted)}."
            )


def check_outputs(names: Sequence[str], definition: Any) -> None:
    """Raises InvalidArgumentError if there are no such outputs, or one is named twice, as predict_util.cc does."""
    for name in names:
        if name not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {_set(definition.outputs)}."
            )
        if list(names).count(name) > 1:
            raise invalid(f"duplicate output tensor alias: {name}")


def check_batch(images: int, limits: ServerLimits) -> None:
    """Raises InvalidArgumentError for too many images."""
    if images > limits.max_batch:
        raise invalid(f"the request has {images} images; it may have at most {limits.max_batch}")


def check_shape(name: str, shape: Sequence[int], definition: Any, limits: ServerLimits) -> None:
    """Refuses too many images, and a shape that the signature does not take.

    To be called before reading the values: in a message, a single value may stand for as many as the shape has.

    Raises:
        tf.errors.InvalidArgumentError: there are too many images, or the shape is wrong.
        TooLargeError: there are more values than fit in a message.
    """
    if shape:
        check_batch(shape[0], limits)
    takes = definition.inputs[name].tensor_shape
    wanted = [dimension.size for dimension in takes.dim]
    if not takes.unknown_rank and not (
        len(shape) == len(wanted) and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))
    ):
        words = ", ".join("?" if size == -1 else str(size) for size in wanted)
        given = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise invalid(f"Cannot feed value of shape ({given}) for {name}, which has shape ({words})")
    values = math.prod(shape)
    if values > limits.message_bytes // 4:
        raise TooLargeError(f"{name} has {values:,} values")


def images_of(strings: Mapping[str, np.ndarray]) -> list[list[bytes]]:
    """The encoded images in a request's string inputs, for each string.

    Raises:
        TooLargeError: a tf.Example has too many fields.
    """
    budget = Budget()
    return [
        [value] if name == _FILES else images_in(value, budget)
        for name, values in strings.items()
        for value in values.ravel()
    ]


def check_pixels(images: Iterable[Iterable[bytes]], limits: ServerLimits) -> int:
    """The pixels of all images together, according to their headers; images that no model decodes do not count.

    Raises:
        tf.errors.InvalidArgumentError: there are too many.
    """
    claimed = (claimed_pixels(file) for group in images for file in group)
    pixels = sum(number for number in claimed if number <= MAX_MEGAPIXELS * 1_000_000)
    if pixels > limits.pixels:
        raise invalid(
            f"the request's images have {pixels / 1e6:,.0f} million pixels together; they may have at most "
            f"{limits.max_megapixels:,} (serving.server.max_megapixels): send fewer at a time"
        )
    return pixels


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
