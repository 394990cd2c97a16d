"""Settings as plain values and back, by msgspec: for records, and for the JSON that components get."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_dict(value: Any) -> Any:
    """Settings as plain values, every default written out."""
    return msgspec.to_builtins(value)


def from_dict(values: Any, cls: type[T]) -> T:
    """The inverse of `to_dict`. Raises ValueError or InputError where a class refuses the values."""
    return msgspec.convert(values, cls)


def to_json(value: Any) -> str:
    """Settings as JSON, for a component's parameter or `custom_config`; mappings keep their order, which may matter."""
    return msgspec.json.encode(value).decode()


def from_json(text: str, cls: type[T]) -> T:
    """The inverse of `to_json`."""
    return msgspec.json.decode(text, type=cls)
