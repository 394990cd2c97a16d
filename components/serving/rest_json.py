"""Converts the JSON of TensorFlow Serving's REST API to tensors and back.

Its rules and messages are those of tensorflow_serving/util/json_tensor.cc: rows (`instances`) or columns (`inputs`),
bytes as `{"b64": …}`.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import tensorflow as tf

from components.serving import request_checks
from components.serving.request_checks import invalid
from core.settings.serving import ServerLimits

_SHOWN, _SHOWN_VALUES = 100, 4  # characters of a value in a message; values of a list or an object


class Tensors(NamedTuple):
    """A request's inputs by name, and whether the answer is in rows or in columns."""

    inputs: dict[str, np.ndarray]
    rows: bool


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of a request that has passed `request_size.check_json`.

    Raises:
        tf.errors.InvalidArgumentError: it is not a JSON object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The requested signature; empty for the default.

    Raises:
        tf.errors.InvalidArgumentError: it is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def tensors(document: Mapping[str, Any], definition: Any, limits: ServerLimits) -> Tensors:
    """The inputs in a request for a signature.

    Raises:
        tf.errors.InvalidArgumentError: the signature does not take them, or there are too many.
    """

    def array(name: str, value: Any) -> np.ndarray:
        shape = _shape(value)
        request_checks.check_shape(name, shape, definition, limits)
        return _array(value, shape, name, tf.as_dtype(definition.inputs[name].dtype))

    names = sorted(definition.inputs)
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only  one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
        return Tensors({name: array(name, value) for name, value in _rows(instances, names).items()}, rows=True)
    if "inputs" in document:
        columns = _columns(document["inputs"], names)
        return Tensors({name: array(name, value) for name, value in columns.items()}, rows=False)
    raise invalid("Missing 'inputs' or 'instances' key")


def examples(document: Mapping[str, Any], limits: ServerLimits) -> list[bytes]:
    """The serialized tf.Examples of a Classify request.

    Raises:
        tf.errors.InvalidArgumentError: there are none or too many, or a tf.Example cannot have such a feature.
        tf.errors.UnimplementedError: they have a context.
    """
    if "context" in document:
        raise tf.errors.UnimplementedError(None, None, "context is not supported")
    found = document.get("examples")
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {_shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(found, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'examples' value to be an list/array")
    if not found:
        raise invalid(f"JSON Value: {_shown(document)} 'examples' value is an empty array")
    request_checks.check_batch(len(found), limits)
    return [_example(features).SerializeToString() for features in found]


def predictions(outputs: Mapping[str, np.ndarray], *, rows: bool) -> bytes:
    """The answer to Predict; a single output comes without its name.

    Raises:
        tf.errors.InvalidArgumentError: rows are requested, but the outputs do not have one for each input.
    """
    columns = {name: _json_values(name, value) for name, value in outputs.items()}
    alone = next(iter(columns.values())) if len(columns) == 1 else None
    if not rows:
        return msgspec.json.encode({"outputs": columns if alone is None else alone})
    sizes = {name: len(value) if value.ndim else None for name, value in outputs.items()}
    size = next(iter(sizes.values()))
    for name, other in sizes.items():
        if other is None:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if other != size:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {other} expecting: {size}")
    if alone is not None:
        return msgspec.json.encode({"predictions": alone})
    values = zip(*columns.values(), strict=True)
    return msgspec.json.encode({"predictions": [dict(zip(columns, row, strict=True)) for row in values]})


def classifications(results: Sequence[Sequence[tuple[str, float]]]) -> bytes:
    """The answer to Classify: label and score of every class for each example."""
    return msgspec.json.encode({"results": results})


def error(message: str) -> bytes:
    """The answer to a refused request."""
    return msgspec.json.encode({"error": message})


def _rows(instances: Sequence[Any], wanted: Sequence[str]) -> dict[str, Any]:
    """A list of values, of the only input, or of objects with all inputs; each is a row of the tensors."""
    as_objects = _is_object(instances[0])
    if not as_objects and len(wanted) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for number, instance in enumerate(instances):
        if as_objects and not _is_object(instance):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if not as_objects and _is_object(instance):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        if as_objects and set(instance) != set(wanted):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_shown(instance)} keys must "
                f"be equal to: {','.join(wanted)}"
            )
    return {name: [row[name] for row in instances] if as_objects else instances for name in wanted}


def _columns(inputs: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """An object of all inputs, or the only one's value."""
    if not _is_object(inputs):
        if len(wanted) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        inputs = dict.fromkeys(wanted, inputs)
    for name in wanted:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in wanted}


def _array(value: Any, shape: Sequence[int], name: str, dtype: tf.DType) -> np.ndarray:
    flat = list(_leaves(value, shape, 0))
    if dtype == tf.string:
        array = np.empty(len(flat), dtype=object)
        array[:] = [_string(leaf) for leaf in flat]
        return array.reshape(shape)
    kinds: tuple[type, ...] = (bool,) if dtype == tf.bool else (int,) if dtype.is_integer else (int, float)
    for leaf in flat:
        if not isinstance(leaf, kinds) or (isinstance(leaf, bool) and dtype != tf.bool):
            raise invalid(f"JSON Value: {_shown(leaf)} of {name} is not of expected type: {dtype.name}")
    try:
        return np.array(flat, dtype=dtype.as_numpy_dtype).reshape(shape)
    except OverflowError as overflow:
        raise invalid(f"Cannot convert a JSON value of {name} to {dtype.name} without loss of precision.") from overflow


def _shape(value: Any) -> list[int]:
    """The shape of nested lists, by their first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _leaves(value: Any, shape: Sequence[int], level: int) -> Any:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        yield value
    elif level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    elif len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    else:
        for inner in value:
            yield from _leaves(inner, shape, level + 1)


def _is_object(value: Any) -> bool:
    """Whether it is an object other than `{"b64": …}`."""
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _string(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {_shown(value)} is not of expected type: string")
    if _is_object(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as damaged:
        raise invalid("Unable to base64 decode") from damaged


def _example(features: Any) -> tf.train.Example:
    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got JSON {_shown(features)}")
    example = tf.train.Example()
    for name, content in features.items():
        values = content if isinstance(content, list) else [content]
        feature = example.features.feature[name]
        if values:
            _fill(feature, name, values)
    return example


def _fill(feature: tf.train.Feature, name: str, values: Sequence[Any]) -> None:
    if all(isinstance(value, str) or (isinstance(value, dict) and not _is_object(value)) for value in values):
        feature.bytes_list.value.extend(map(_string, values))
    elif all(isinstance(value, int) for value in values):
        try:
            feature.int64_list.value.extend(map(int, values))
        except ValueError as overflow:
            raise invalid(f"Feature: {name} has an element beyond int64. Only int64 is supported.") from overflow
    elif all(isinstance(value, float) for value in values):
        feature.float_list.value.extend(values)
    else:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: one of bytes, int64, float for all")


def _json_values(name: str, value: np.ndarray) -> Any:
    """Nested lists; strings as text, or in base64 if the output's name says that they are bytes."""
    if value.dtype != object:
        return value.tolist()
    if name.endswith("_bytes"):
        return _mapped(value.tolist(), lambda one: {"b64": base64.b64encode(one).decode()})
    return _mapped(value.tolist(), lambda one: one.decode("utf-8", "replace"))


def _mapped(value: Any, function: Any) -> Any:
    return [_mapped(inner, function) for inner in value] if isinstance(value, list) else function(value)


def _shown(value: Any) -> str:
    """A value for a message, shortened if long."""
    text = msgspec.json.encode(_beginning(value)).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _beginning(value: Any, level: int = 0) -> Any:
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list):
        return [_beginning(inner, level + 1) for inner in value[:_SHOWN_VALUES]] if level < _SHOWN_VALUES else []
    if isinstance(value, dict):
        some = itertools.islice(value.items(), _SHOWN_VALUES if level < _SHOWN_VALUES else 0)
        return {name[:_SHOWN]: _beginning(inner, level + 1) for name, inner in some}
    return value
