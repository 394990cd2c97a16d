"""Settings from plain values and back: strict, for YAML and for the JSON that components get."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from core.settings.training import TrainerConfig

T = TypeVar("T")


def yaml_name(field: str) -> str:
    """What a field of a class of settings is called in YAML."""
    return "from" if field == "from_layer" else field


def make_converter() -> cattrs.Converter:
    """A strict converter between classes of settings and plain YAML/JSON values.

    Unknown keys and wrong types are errors; nothing is coerced but int to float. A class that has a method
    `from_shorthand` is also read from what is no mapping.
    """
    converter = cattrs.Converter(forbid_extra_keys=True)

    def strict(kind: type, accepted: tuple[type, ...], words: str) -> None:
        def structure(value: Any, _: type) -> Any:
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, accepted):
                raise TypeError(f"expected {words}, found {value!r}")
            return kind(value)

        converter.register_structure_hook(kind, structure)

    strict(bool, (bool,), "true or false")
    strict(int, (int,), "a whole number")
    strict(float, (int, float), "a number")
    strict(str, (str,), "text")

    def texts(value: Any, _: type) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list of text, found {value!r}")
        return tuple(converter.structure(item, str) for item in value)

    def span(value: Any, _: type) -> int | str:
        if value == "latest" or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise TypeError(f"expected a whole number or latest, found {value!r}")

    def section(cls: Any) -> Callable[[Any, Any], Any]:
        structure = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **_renamed(cls))

        def read(value: Any, _: type) -> Any:
            if not isinstance(value, dict) and hasattr(cls, "from_shorthand"):
                value = cls.from_shorthand(value)
            if not isinstance(value, dict):
                raise TypeError
            return structure(value, cls)

        return read

    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], texts)
    converter.register_structure_hook_func(lambda kind: kind == int | Literal["latest"], span)
    converter.register_structure_hook_factory(dataclasses.is_dataclass, section)
    converter.register_unstructure_hook_factory(
        dataclasses.is_dataclass, lambda cls: make_dict_unstructure_fn(cls, converter, **_renamed(cls))
    )
    return converter


def _renamed(cls: Any) -> dict[str, Any]:
    return {f.name: override(rename=yaml_name(f.name)) for f in dataclasses.fields(cls) if f.name != yaml_name(f.name)}


_CONVERTER = make_converter()


def to_dict(value: Any) -> dict[str, Any]:
    """A settings dataclass as plain values."""
    return _CONVERTER.unstructure(value)


def from_dict(values: dict[str, Any]) -> TrainerConfig:
    """The Trainer's config from `to_dict`'s values. Raises what cattrs raises where they do not fit."""
    return _CONVERTER.structure(values, TrainerConfig)


def to_json(value: Any) -> str:
    """A settings dataclass as JSON, for a component's parameter: equal values give equal text."""
    return json.dumps(to_dict(value), sort_keys=True)


def from_json(text: str, cls: type[T]) -> T:
    """The inverse of `to_json`. Raises what cattrs raises where the text does not fit."""
    return _CONVERTER.structure(json.loads(text), cls)
