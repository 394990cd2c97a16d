"""What is wrong with settings, in the user's words: a line for every violation of their JSON Schema.

Handles only what `core.settings.schema` generates. The library jsonschema would take three seconds to import, and does
not suggest the closest key.
"""

from __future__ import annotations

import difflib
import itertools
import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

from core.settings.schema import ENGINE

_TYPES: dict[str, tuple[Any, str, str]] = {
    "integer": (int, "a whole number", "whole numbers"),
    "number": ((int, float), "a number", "numbers"),
    "string": (str, "text", "text"),
    "boolean": (bool, "true or false", "true or false"),
    "null": (type(None), "null", "null"),
    "array": (list, "a list of", "lists of"),
    "object": (dict, "a mapping of names to", "mappings of names to"),
}
_OTHERS = "additionalProperties"
_MAX_SHOWN = 200  # characters
_BOUNDS = {
    "minimum": ("at least", operator.ge),
    "exclusiveMinimum": ("above", operator.gt),
    "maximum": ("at most", operator.le),
    "exclusiveMaximum": ("below", operator.lt),
}


def mistakes(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """A line for every mistake in a value, with the path of the setting.

    Args:
        schema: that the value should fit.
        value: as YAML has it.
        path: of the setting that has it; "" for all of them.
    """
    fitting = [one for one in schema.get("anyOf", [schema]) if _is_a(one, value)]
    if schema.get("title") == ENGINE and isinstance(value, str | dict):
        given = {"engine": value} if isinstance(value, str) else value
        engines = {one["properties"]["engine"]["const"]: one for one in schema["anyOf"] if "properties" in one}
        name = given.get("engine", next(iter(engines)))
        if isinstance(name, str) and name in engines:
            yield from mistakes(engines[name], given, path)
        else:
            yield f"{path}: there is no engine {shown(name)}; {nearest(str(name), engines)}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path} is {value}; it must be a finite number"
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield f"{path} is {shown(value)}; it must be below 2 to the power of 63"
    elif len(fitting) != 1:
        keys = f" ({', '.join(schema['properties'])})" if "properties" in schema else ""
        yield f"{path or 'settings'}: expected {words(schema)}{keys}, found {shown(value)}"
    elif isinstance(value, dict):
        yield from _in_mapping(fitting[0], value, path)
    elif isinstance(value, list):
        kinds = fitting[0].get("prefixItems") or itertools.repeat(fitting[0]["items"])
        for index, (kind, item) in enumerate(zip(kinds, value, strict=False)):
            yield from mistakes(kind, item, f"{path}[{index}]")
    elif not all(_BOUNDS[key][1](value, fitting[0][key]) for key in fitting[0].keys() & _BOUNDS.keys()):
        yield f"{path} is {shown(value)}; it must be {_bounds(fitting[0])}"


def _in_mapping(schema: dict[str, Any], value: dict[Any, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for key in schema.get("required", []):
        if key not in value:
            yield f"{_join(path, key)}: missing; this setting has no default"
    for key, item in value.items():
        if key in known or (not known and _is_a(schema["propertyNames"], key)):
            yield from mistakes(known.get(key, schema[_OTHERS]), item, _join(path, key))
        elif known:
            hint = nearest(str(key), sorted(known), _join(path, ""), "known here:")
            yield f"{_join(path, key)}: there is no such setting; {hint}"
        else:
            names = schema["propertyNames"].get("enum", ["text"])
            yield f"{_join(path, key)}: there is no such metric; {nearest(str(key), names)}"


def _is_a(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is of the type, or among the values, of a schema."""
    if "anyOf" in schema:
        return any(_is_a(one, value) for one in schema["anyOf"])
    if "type" not in schema:
        return value in schema.get("enum", [schema.get("const")])
    return (
        isinstance(value, _TYPES[schema["type"]][0])
        and isinstance(value, bool) == (schema["type"] == "boolean")
        and value in schema.get("enum", [value])
        and ("prefixItems" not in schema or len(value) == len(schema["prefixItems"]))
    )


def words(schema: dict[str, Any], many: bool = False) -> str:
    """What a schema describes, in words: of one value, or of many."""
    if "title" in schema:
        return schema["title"]
    if "anyOf" in schema:
        return " or ".join(words(one, many) for one in schema["anyOf"])
    if "enum" in schema:
        return f"{'one of ' if len(schema['enum']) > 1 else ''}{', '.join(schema['enum'])}"
    if "properties" in schema:
        return "keys and values"
    if schema.get("format") == "path":
        return "paths" if many else "a path"
    noun = _TYPES[schema["type"]][1 + many]
    if "prefixItems" in schema:
        return f"{noun} {' and '.join(map(words, schema['prefixItems']))}"
    inner = schema.get("items") or schema.get(_OTHERS)
    return f"{noun} {words(inner, many=True)}" if inner else noun


def shown(value: Any) -> str:
    """A value in a message, as Python writes it; of a long one the beginning."""
    if value is None:
        return "nothing"
    try:
        return shortened(repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text):,} characters)"


def _join(path: str, key: Any) -> str:
    name = shortened(str(key))
    return f"{path}.{name}" if path else name


def _bounds(schema: dict[str, Any]) -> str:
    """Such as `a fraction, from 0 to below 1`."""
    bounds = {key: schema[key] for key in _BOUNDS if key in schema}
    said = " and ".join(f"{_BOUNDS[key][0]} {bound}" for key, bound in bounds.items())
    if "minimum" in bounds and len(bounds) == 2:
        said = said.replace("at least", "from").replace("and at most", "to").replace("and below", "to below")
    return f"a fraction, {said}" if 1 in (bounds.get("maximum"), bounds.get("exclusiveMaximum")) else said


def nearest(name: str, known: Iterable[str], prefix: str = "", listed: str = "known are") -> str:
    """The end of a message on a name that is not known: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"{listed} {', '.join(names)}"
