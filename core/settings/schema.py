"""The JSON Schema of a settings file, generated from the settings classes; editors use it to complete and check.

`msgspec.json.schema` will not do: it sorts the values of a Literal, uses entire docstrings as descriptions of classes
and none for fields, omits defaults from factories, and does not know the short forms.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import NODEFAULT

from core.settings.beam import BeamEngine, LocalEngine
from core.settings.checks import NotNegative
from core.settings.converter import to_dict
from core.settings.settings import Settings
from core.settings.training import LearningRateConfig

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


ENGINE = "an engine's name, its keys and values, or a list of Beam's options"
"""The forms of `runtime.beam`, in words."""


def fields(kind: Any) -> dict[str, tuple[msgspec.inspect.Field, Any]]:
    """The settings of a class, or of an optional one, with their types, by their names in YAML; else none."""
    cls = next(filter(_is_section, typing.get_args(kind) if _is_union(kind) else (kind,)), None)
    return _fields(cls) if cls else {}


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[msgspec.inspect.Field, Any]]:
    info: Any = msgspec.inspect.type_info(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    return {one.encode_name: (one, hints[one.name]) for one in info.fields}


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a settings file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "settings", **_section(Settings)}


def _section(cls: Any) -> dict[str, Any]:
    """The schema of a settings class; that of a Beam engine includes its name, which tells it from the others."""
    meanings, tag = _meanings(cls), cls.__struct_config__.tag if issubclass(cls, msgspec.Struct) else None
    properties: dict[str, Any] = {"engine": {"const": tag}} if tag else {}
    for key, (field, kind) in fields(cls).items():
        described = {"description": meanings[field.name]} if field.name in meanings else {}
        properties[key] = {**_of(kind), **described, **_default(field)}
    required = [key for key, (field, _) in fields(cls).items() if field.required]
    return {
        "type": "object",
        "description": inspect.cleandoc(cls.__doc__).split("\n\nAttributes:")[0],
        "properties": properties,
        "required": [*(["engine"] if tag and cls is not LocalEngine else []), *required],
        "additionalProperties": False,
    }


def _of(kind: Any) -> dict[str, Any]:
    """The schema of any type that a setting may have, with its bounds."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        bounds = {word: getattr(args[1], key) for key, word in _BOUNDS.items() if getattr(args[1], key) is not None}
        return {**_of(args[0]), **bounds, **(args[1].extra_json_schema or {})}
    if kind == BeamEngine:
        engines = [_section(cls) for cls in args]
        alone = [one["properties"]["engine"]["const"] for one in engines if set(one["required"]) <= {"engine"}]
        return {"title": ENGINE, "anyOf": [{"enum": alone}, _of(tuple[str, ...]), *engines]}
    if _is_union(kind):
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
    return {"type": _TYPES[kind]} if kind in _TYPES else _section(kind)


def _default(field: msgspec.inspect.Field) -> dict[str, Any]:
    """The default as YAML would write it; nothing if there is none, or if the nested keys have their own."""
    value = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if value == LocalEngine():
        return {"default": "local"}
    return {} if value is NODEFAULT or _is_section(type(value)) else {"default": to_dict(value)}


def _meanings(cls: type) -> dict[str, str]:
    """Descriptions of the attributes of a class and its base classes, by name."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct))


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)
