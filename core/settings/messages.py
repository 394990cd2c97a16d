"""What is wrong with settings, in the user's words: a line for every place where they do not fit their JSON Schema."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from core.settings.checks import nearest
from core.settings.schema import ENGINE

_TYPES = {
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "string": ("text", "text"),
    "boolean": ("true or false", "true or false"),
    "null": ("null", "null"),
}
_OTHERS = "additionalProperties"
_KINDS = ("type", "enum", "const")
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _is_number(_checker: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number).redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def mistakes(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """A line for every mistake in a value, with the path of the setting.

    Args:
        schema: that the value should fit.
        value: as YAML has it.
        path: of the setting that has it; "" for all of them.
    """
    for error in _Validator(schema).iter_errors(value):
        yield from _lines(error, path)


def words(schema: dict[str, Any], many: bool = False) -> str:
    """What a schema describes, in words: of one value, or of many."""
    if "title" in schema:
        return schema["title"]
    if "anyOf" in schema:
        return " or ".join(words(one, many) for one in schema["anyOf"])
    if "enum" in schema:
        return f"{'one of ' if len(schema['enum']) > 1 else ''}{', '.join(schema['enum'])}"
    if "prefixItems" in schema:
        parts = " and ".join(map(words, schema["prefixItems"]))
        return f"lists of {parts}" if many else f"a list of {parts}"
    if schema["type"] == "array":
        return f"{'lists' if many else 'a list'} of {words(schema['items'], many=True)}"
    if schema["type"] == "object":
        mapping = f"{'mappings' if many else 'a mapping'} of names to "
        return "keys and values" if "properties" in schema else mapping + words(schema[_OTHERS], many=True)
    return _TYPES[schema["type"]][many]


def _lines(error: ValidationError, prefix: str) -> Iterator[str]:
    path = functools.reduce(_join, error.absolute_path, prefix)
    schema, found, rule = error.schema, error.instance, error.validator
    if rule == _OTHERS:
        known = schema["properties"]
        for key in sorted(str(key) for key in found if key not in known):
            yield f"{_join(path, key)}: there is no such setting; {nearest(key, known, _join(path, ''), 'known here:')}"
    elif rule == "required":
        yield f"{_join(path, error.message.split(chr(39))[1])}: missing; this setting has no default"
    elif "propertyNames" in error.schema_path:
        what = (
            f"there is no such metric; {nearest(str(found), schema['enum'])}" if "enum" in schema else "names are text"
        )
        yield f"{_join(path, found)}: {what}"
    elif rule in _BOUNDS:
        yield f"{path} is {found}; it must be {_bounds(schema)}"
    elif isinstance(found, float) and not math.isfinite(found):
        yield f"{path} is {found}; it must be a finite number"
    elif rule == "anyOf" and schema.get("title") == ENGINE and isinstance(found, str | dict):
        given = {"engine": found} if isinstance(found, str) else found
        engines = {one["properties"]["engine"]["const"]: one for one in schema["anyOf"] if "properties" in one}
        name = given.get("engine", next(iter(engines)))
        if isinstance(name, str) and name in engines:
            yield from mistakes(engines[name], given, path)
        else:
            yield f"{path}: there is no engine {name!r}; {nearest(str(name), engines)}"
    elif rule == "anyOf" and (inner := _of_its_type(error)):
        for one in inner:
            yield from _lines(one, prefix)
    else:
        keys = f" ({', '.join(schema['properties'])})" if "properties" in schema else ""
        yield f"{path}: expected {words(schema)}{keys}, found {found!r}"


def _of_its_type(error: ValidationError) -> list[ValidationError]:
    """The errors of the one alternative of an `anyOf` that is of the value's type; none if there is no such."""
    groups: dict[Any, list[ValidationError]] = {}
    for one in error.context or ():
        groups.setdefault(one.relative_schema_path[0], []).append(one)
    fitting = [
        group for group in groups.values() if all(one.relative_path or one.validator not in _KINDS for one in group)
    ]
    return fitting[0] if len(fitting) == 1 else []


def _join(path: str, part: Any) -> str:
    return f"{path}[{part}]" if isinstance(part, int) else f"{path}.{part}" if path else str(part)


def _bounds(schema: dict[str, Any]) -> str:
    """Such as `a fraction, from 0 to below 1`."""
    bounds = {key: schema[key] for key in _BOUNDS if key in schema}
    said = " and ".join(f"{_BOUNDS[key]} {bound}" for key, bound in bounds.items())
    if "minimum" in bounds and len(bounds) == 2:
        said = said.replace("at least", "from").replace("and at most", "to").replace("and below", "to below")
    return f"a fraction, {said}" if 1 in (bounds.get("maximum"), bounds.get("exclusiveMaximum")) else said
