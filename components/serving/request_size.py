"""Bounds the memory that a request takes once parsed, by inspecting its bytes before parsing.

A protobuf message with 64 MB of empty strings takes 1.3 GB as Python objects, and JSON of empty objects as much. So
messages are walked field by field (https://protobuf.dev/programming-guides/encoding) without creating objects; a walk
stops at `_MOST_FIELDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

from core.examples import IMAGE
from core.settings.serving import AROUND_IMAGES, ServerLimits

_MOST_FIELDS = 2**16  # of a request; a tf.Example with all that ingestion writes has some hundred
_MOST_JSON_VALUES = 2**20  # each takes up to 120 bytes of memory
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)  # wire types

# Of a message, what its fields are by number: a message again, or content, which takes no more when it is parsed.
_CONTENT = "content"
_Layout = Mapping[int, "str | _Layout"]
_TENSOR: _Layout = {4: _CONTENT, 5: _CONTENT, 6: _CONTENT, 8: _CONTENT}  # tensor_content, float, double, string_val
_PREDICT: _Layout = {2: {2: _TENSOR}}
_CLASSIFY: _Layout = {2: {1: {1: _CONTENT}}}
_IMAGE_OF_EXAMPLE = (1, 1)  # features, then an entry of the map: 1 is its name, 2 its feature
_BYTES_LIST, _VALUE = 1, 1


class TooLargeError(Exception):
    """A request has more bytes or values than the server accepts."""


class Budget:
    """The number of fields of one request that may still be read."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def spend(self) -> None:
        """Counts a field.

        Raises:
            TooLargeError: none is left.
        """
        self._left -= 1
        if self._left < 0:
            raise TooLargeError(f"the request has more than {_MOST_FIELDS:,} values")


def check_predict(message: bytes) -> None:
    """Refuses a serialized PredictRequest with much content besides its tensors' values.

    Raises:
        TooLargeError: it has more than `AROUND_IMAGES` bytes besides them, or too many fields.
        DecodeError: it is not such a message.
    """
    _content(message, _PREDICT)


def split_classify(message: bytes) -> tuple[ClassificationRequest, list[bytes]]:
    """Splits a serialized ClassificationRequest into one without tf.Examples, and these, still serialized.

    Raises:
        TooLargeError: as in `check_predict`.
        DecodeError: it is not such a message.
    """
    examples = [bytes(example) for example in _content(message, _CLASSIFY)]
    request, budget = ClassificationRequest(), Budget()
    for number, value in _fields(memoryview(message), budget):
        if number == 1 and value is not None:
            request.model_spec.MergeFromString(bytes(value))
        elif number == 2 and value is not None:
            for kind, _ in _fields(value, budget):
                list_, with_context = request.input.example_list, request.input.example_list_with_context
                (list_ if kind == 1 else with_context).SetInParent()
    return request, examples


def images_in(example: bytes, budget: Budget) -> list[bytes]:
    """The encoded images of a serialized tf.Example, which is not parsed; none if it is no tf.Example.

    Raises:
        TooLargeError: it has too many fields.
    """
    name, images = IMAGE.encode(), []
    try:
        for entry in _descend(memoryview(example), _IMAGE_OF_EXAMPLE, budget):
            parts = list(_fields(entry, budget))
            if (1, name) in parts:
                features = [value for number, value in parts if number == 2 and value is not None]
                images += [bytes(v) for f in features for v in _descend(f, (_BYTES_LIST, _VALUE), budget)]
    except DecodeError:  # the model says so
        return []
    return images


def check_json(body: bytes | bytearray) -> None:
    """Refuses JSON with too many values or too deep nesting; base64 contains none of the counted characters.

    Raises:
        TooLargeError: there are too many, or they are too deep.
    """
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > _MOST_JSON_VALUES:
        raise TooLargeError(
            f"the request has more than {_MOST_JSON_VALUES:,} values; send fewer at a time, or tensors over gRPC"
        )


def json_bytes(limits: ServerLimits) -> int:
    """The maximum size of a JSON request, in which images are in base64, in bytes."""
    return limits.image_bytes * 4 // 3 + AROUND_IMAGES


def _content(message: bytes, layout: _Layout) -> list[memoryview]:
    """The fields of a serialized request that are content; refuses one with much beside it."""
    found: list[memoryview] = []
    _collect(memoryview(message), layout, Budget(), found)
    around = len(message) - sum(map(len, found))
    if around > AROUND_IMAGES:
        raise TooLargeError(f"the request has {around:,} bytes beside its images; it may have {AROUND_IMAGES:,}")
    return found


def _collect(message: memoryview, layout: _Layout, budget: Budget, found: list[memoryview]) -> None:
    for number, value in _fields(message, budget):
        inner = layout.get(number)
        if value is None or inner is None:
            continue
        if isinstance(inner, str):
            found.append(value)
        else:
            _collect(value, inner, budget, found)


def _descend(message: memoryview, path: tuple[int, ...], budget: Budget) -> Iterator[memoryview]:
    """The fields at the end of a path of field numbers."""
    for number, value in _fields(message, budget):
        if number == path[0] and value is not None:
            if len(path) == 1:
                yield value
            else:
                yield from _descend(value, path[1:], budget)


def _fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, memoryview | None]]:
    """The number of each field, with its bytes if it has a length; fields in a group appear as if they were outside."""
    place = 0
    while place < len(message):
        budget.spend()
        tag, place = _varint(message, place)
        kind, value = tag & 7, None
        if kind == _BYTES:
            size, place = _varint(message, place)
            value = message[place : place + size]
            place += size
        elif kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            place += 4 if kind == _FIXED32 else 8
        elif kind not in (_GROUP, _END_GROUP):
            raise DecodeError("no protobuf message")
        if place > len(message):
            raise DecodeError("a truncated protobuf message")
        yield tag >> 3, value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number with seven bits per byte, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise DecodeError("a truncated protobuf message")
