"""docs/settings.md: every setting with its type, its default and what it means, read from the classes that hold them.

python -m core.settings.reference > docs/settings.md
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from core.settings.loading import Settings
from core.settings.messages import yaml_name

_INTRODUCTION = """\
# All settings

A settings file is YAML: the keys below, nested as the dots say. What it leaves out has the default shown; `name` and
`data.images` have none. `SET="path.of.setting=value …"` overrides any of them for one run. A key that does not exist, a
value of the wrong type and a combination that cannot work are refused before anything runs, all at once.

This page is made from the classes that hold the settings: `python -m core.settings.reference > docs/settings.md`.
"""
_NAMES = {int: "int", float: "float", str: "str", bool: "bool", type(None): "null"}


class Row(typing.NamedTuple):
    """One setting: its path with dots, its type and default in YAML's terms, and its meaning."""

    path: str
    kind: str
    default: str
    meaning: str


def reference() -> str:
    """The page, in Markdown."""
    parts = [_INTRODUCTION]
    hints = typing.get_type_hints(Settings)
    top = [field for field in dataclasses.fields(Settings) if not _nested(hints[field.name])]
    parts.append(_table(_row(field, hints[field.name], "", _meanings(Settings)) for field in top))
    for field in dataclasses.fields(Settings):
        cls = _nested(hints[field.name])
        if cls:
            optional = "\n\nNot there by default.\n" if field.default is None else "\n"
            parts.append(f"## `{field.name}`\n\n{_summary(cls)}{optional}")
            parts.append(_table(rows(cls, f"{field.name}.")))
    return "\n".join(parts)


def rows(cls: Any, prefix: str) -> Iterator[Row]:
    """The settings of a class and of those within it, in their order.

    Args:
        cls: a dataclass of settings.
        prefix: of their paths, such as `data.`.
    """
    hints, meanings = typing.get_type_hints(cls), _meanings(cls)
    for field in dataclasses.fields(cls):
        inner = _nested(hints[field.name])
        yield _row(field, hints[field.name], prefix, meanings)
        if inner is not None:
            key = "<name>." if typing.get_origin(hints[field.name]) is dict else ""
            yield from rows(inner, f"{prefix}{yaml_name(field.name)}.{key}")


def _row(field: dataclasses.Field, kind: Any, prefix: str, meanings: dict[str, str]) -> Row:
    return Row(prefix + yaml_name(field.name), _kind(kind), _default(field), meanings[field.name])


def _table(found: typing.Iterable[Row]) -> str:
    lines = ["| setting | type | default | |", "|---|---|---|---|"]
    for row in found:
        kind = row.kind.replace("|", "\\|")
        default = f"`{row.default}`" if row.default else ""
        meaning = row.meaning.replace("|", "\\|")
        lines.append(f"| `{row.path}` | {kind} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _nested(kind: Any) -> Any:
    """The class of settings that a setting consists of, or holds by names; None if it is a value."""
    if dataclasses.is_dataclass(kind):
        return (
            kind if dataclasses.fields(kind) and not hasattr(kind, "options_for") else None
        )  # engines: see their page
    if typing.get_origin(kind) is dict:
        return _nested(typing.get_args(kind)[1])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next((found for found in map(_nested, typing.get_args(kind)) if found), None)
    return None


def _kind(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_kind, args))
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        inner = [_kind(arg) for arg in args if arg is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in args else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"mapping of names to {_kind(args[1])}"
    return _NAMES.get(kind) or ("keys" if _nested(kind) else "str | keys | list of str")


def _default(field: dataclasses.Field) -> str:
    """As YAML would have it; "" where there is none, or where the keys within have theirs."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is dataclasses.MISSING or (dataclasses.is_dataclass(value) and not hasattr(value, "options_for")):
        return ""
    return str(getattr(value, "name", "")) or json.dumps(value)


def _summary(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").split("\n\nAttributes:")[0]


def _meanings(cls: type) -> dict[str, str]:
    """What a class and those it is derived from say of their attributes, by name."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


if __name__ == "__main__":
    print(reference(), end="")
