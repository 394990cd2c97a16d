"""What is wrong with settings, in the user's words: cattrs' groups of errors as a line for every mistake."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from core.settings.checks import is_union, nearest
from core.settings.converter import yaml_name


def explain(error: BaseException, path: str, cls: Any) -> Iterator[str]:
    """A line for every mistake under `error`, with the path of the setting, in the user's words.

    Args:
        error: what cattrs raised.
        path: of the setting it was raised for; "" for all of them.
        cls: the type that setting has.
    """
    if isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(map(str, error.extra_fields)):
            known = sorted(_keys(error.cl))
            hint = nearest(key, known, _join(path, ""), "known here:")
            yield f"{_join(path, key)}: there is no such setting; {hint}"
    elif isinstance(error, ClassValidationError):
        with_notes, without = error.group_exceptions()
        for inner, note in with_notes:
            missing = isinstance(inner, KeyError) and inner.args[0] == note.name
            yield from explain(inner, path if missing else _join(path, yaml_name(note.name)), note.type)
        for inner in without:
            yield from explain(inner, path, error.cl)
    elif isinstance(error, IterableValidationError):
        indexed, without = error.group_exceptions()
        for inner, item in indexed:
            index = item.index
            at = f"{path}[{index}]" if isinstance(index, int) else _join(path, str(index))
            yield from explain(inner, at, item.type)
        for inner in without:
            yield from explain(inner, path, cls)
    elif isinstance(error, KeyError):
        yield f"{_join(path, yaml_name(str(error.args[0])))}: missing; this setting has no default"
    elif isinstance(error, TypeError):
        text = str(error)
        yield f"{path or 'settings'}: {text if text.startswith('expected ') else f'expected {_describe(cls)}'}"
    elif (choices := _choices(cls)) and "literal" in str(error).lower():
        found = str(error).split(" not in ")[0]
        yield f"{path}: expected one of {', '.join(map(str, choices))}, found {found!r}"
    else:
        for line in str(error).split("\n"):
            of_key = re.match(r"(\w+) is ", line)
            yield _join(path, line) if of_key and of_key[1] in _keys(cls) else f"{path or 'settings'}: {line}"


def _choices(cls: Any) -> list[Any]:
    """The values of a Literal, or of the Literals in a Union."""
    if typing.get_origin(cls) is Literal:
        return list(typing.get_args(cls))
    return [choice for arg in typing.get_args(cls) for choice in _choices(arg)] if is_union(cls) else []


def _keys(cls: Any) -> list[str]:
    return [yaml_name(f.name) for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _describe(cls: Any) -> str:
    """The type of a setting in words."""
    origin, args = typing.get_origin(cls), typing.get_args(cls)
    if origin is Annotated:
        return _describe(args[0])
    if is_union(cls):
        return " or ".join("null" if arg is type(None) else _describe(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (tuple, list):
        return f"a list of {_describe(args[0])}"
    if origin is dict or dataclasses.is_dataclass(cls):
        return f"keys and values ({', '.join(_keys(cls))})" if _keys(cls) else "keys and values"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(cls, str(cls))


def kind(value: Any) -> str:
    """What a value of a YAML file is called, for a message."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing"}
    return names.get(type(value), "a number")
