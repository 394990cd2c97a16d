"""Converts settings to plain values and back, with msgspec: for records, and for the JSON that components receive."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_dict(value: Any) -> Any:
    """Settings as plain values with every default, which msgspec omits for dataclasses it has decoded."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        fields = msgspec.structs.fields(type(value))
        return tag | {field.encode_name: to_dict(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    return [to_dict(item) for item in value] if isinstance(value, list | tuple) else value


def from_dict(values: Any, cls: type[T]) -> T:
    """The inverse of `to_dict`. Raises ValueError or InputError if a class refuses the values."""
    return msgspec.convert(values, cls)


def to_json(value: Any) -> str:
    """Settings as JSON, for a component's parameter or `custom_config`: equal settings give equal text.

    Mappings keep their order, which may matter.
    """
    return json.dumps(to_dict(value))


def from_json(text: str, cls: type[T]) -> T:
    """The inverse of `to_json`."""
    return from_dict(json.loads(text), cls)
