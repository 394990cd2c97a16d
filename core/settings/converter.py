"""Settings from plain values that fit the JSON Schema, and back: for YAML, and for the JSON that components get."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import typing
from typing import Annotated, Any, TypeVar

from core.errors import InputError
from core.settings.checks import fields, is_union, require

T = TypeVar("T")


def build(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    """An object of any type that a setting may have.

    Args:
        kind: the type; a class that has a method `from_shorthand` says itself what a value stands for.
        value: plain, of the right form.
        path: of the setting.
        problems: is given a line for whatever the classes refuse, with its path; what is returned then is None.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated or is_union(kind):
        return None if value is None else build(args[0], value, path, problems)
    if origin in (tuple, list):
        kinds = itertools.repeat(args[0]) if args[-1] is Ellipsis or origin is list else args
        return origin(build(one, item, path, problems) for one, item in zip(kinds, value, strict=False))
    if origin is dict:
        return {key: build(args[1], item, f"{path}.{key}", problems) for key, item in value.items()}
    if hasattr(kind, "from_shorthand"):
        kind, value = kind.from_shorthand(value)
    if kind is float:
        return float(value)
    cls: Any = kind
    if not dataclasses.is_dataclass(kind):
        return value
    before, parts = len(problems), {}
    for key, (field, type_) in fields(cls).items():
        if key in value:
            parts[field.name] = build(type_, value[key], f"{path}.{key}".lstrip("."), problems)
    if len(problems) > before:
        return None
    try:
        return cls(**parts)
    except (ValueError, InputError) as error:
        named = re.match(r"(\w+)(\.| is )", str(error))
        dotted = f"{path}." if named and named[1] in fields(cls) else f"{path}: "
        problems.append(str(error) if not path or str(error).startswith(f"{path}.") else f"{dotted}{error}")


def to_dict(value: Any) -> Any:
    """A settings dataclass as plain values, every default written out."""
    if dataclasses.is_dataclass(value):
        cls: Any = type(value)
        tag = {"engine": cls.name} if hasattr(cls, "from_shorthand") and hasattr(cls, "name") else {}
        return {**tag, **{key: to_dict(getattr(value, field.name)) for key, (field, _) in fields(cls).items()}}
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    return [to_dict(item) for item in value] if isinstance(value, tuple | list) else value


def from_dict(values: Any, cls: type[T]) -> T:
    """The inverse of `to_dict`. Raises ValueError where a class refuses the values."""
    problems: list[str] = []
    built = build(cls, values, "", problems)
    require(not problems, "\n".join(problems))
    return built


def to_json(value: Any) -> str:
    """A settings dataclass as JSON, for a component's parameter or `custom_config`: equal values give equal text."""
    return json.dumps(to_dict(value), sort_keys=True)


def from_json(text: str, cls: type[T]) -> T:
    """The inverse of `to_json`."""
    return from_dict(json.loads(text), cls)
