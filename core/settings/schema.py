"""The JSON Schema of a settings file, from the classes that hold the settings; editors complete and check with it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from typing import Annotated, Any, Literal

from core.settings.beam import ENGINES, BeamEngine, LocalEngine
from core.settings.checks import NotNegative, fields, is_union
from core.settings.converter import to_dict
from core.settings.settings import Settings
from core.settings.training import LearningRateConfig

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


ENGINE = "an engine's name, its keys and values, or a list of Beam's options"
"""What may be given as `runtime.beam`, in words."""


@functools.cache
def schema() -> dict[str, Any]:
    """What a settings file may hold."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "settings", **_section(Settings)}


def _section(cls: Any) -> dict[str, Any]:
    """Of a class of settings."""
    meanings, properties = _meanings(cls), {}
    for key, (field, kind) in fields(cls).items():
        described = {"description": meanings[field.name]} if field.name in meanings else {}
        properties[key] = {**_of(kind), **described, **_default(field)}
    required = [key for key, (field, _) in fields(cls).items() if field.default is field.default_factory]
    return {
        "type": "object",
        "description": inspect.cleandoc(cls.__doc__).split("\n\nAttributes:")[0],
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _of(kind: Any) -> dict[str, Any]:
    """Of any type that a setting may have, with its bounds."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        bounds = {word: getattr(args[1], key) for key, word in _BOUNDS.items() if getattr(args[1], key) is not None}
        return {**_of(args[0]), **bounds, **(args[1].extra_json_schema or {})}
    if is_union(kind):
        kinds = [_of(arg) for arg in args]
        description = [{"description": one["description"]} for one in kinds if "description" in one]
        return {"anyOf": kinds, **(description[0] if description else {})}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is dict:
        return {"type": "object", "propertyNames": _of(args[0]), "additionalProperties": _of(args[1])}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _of(args[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [_of(arg) for arg in args], "minItems": len(args), "items": False}
    if kind is LearningRateConfig:
        return {"title": "a number, or boundaries and values", "anyOf": [_of(NotNegative), _section(kind)]}
    if kind is BeamEngine:
        engines = [_engine(cls) for cls in ENGINES.values()]
        alone = [name for name, one in zip(ENGINES, engines, strict=True) if set(one["required"]) <= {"engine"}]
        return {"title": ENGINE, "anyOf": [{"enum": alone}, _of(tuple[str, ...]), *engines]}
    return {"type": _TYPES[kind]} if kind in _TYPES else _section(kind)


def _engine(cls: type[BeamEngine]) -> dict[str, Any]:
    """Of one engine of Beam, which its name tells from the others."""
    section = _section(cls)
    named = {"engine": {"const": cls.name}}
    return {
        **section,
        "properties": {**named, **section["properties"]},
        "required": [*([] if cls is LocalEngine else named), *section["required"]],
    }


def _default(field: dataclasses.Field) -> dict[str, Any]:
    """As YAML would have it; nothing where there is none, or where the keys within have theirs."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(value, BeamEngine):
        return {"default": value.name}
    return {} if value is dataclasses.MISSING or dataclasses.is_dataclass(value) else {"default": to_dict(value)}


def _meanings(cls: type) -> dict[str, str]:
    """What a class and those it is derived from say of their attributes, by name."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found
