"""docs/settings.md: every setting with its type, its default and what it means, from the settings' JSON Schema."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from core.settings.schema import schema

_INTRODUCTION = """\
# All settings

A settings file is YAML: the keys below, nested as the dots say. What it leaves out has the default shown; `name` and
`data.images` have none. `SET="path.of.setting=value …"` overrides any of them for one run. A key that does not exist, a
value of the wrong type and a combination that cannot work are refused before anything runs, all at once; a setting that
has no effect beside the others is noted when a run starts.

This page and `schemas/settings.schema.json`, with which editors complete and check a settings file, are made from the
classes that hold the settings: `python -m core.schemas`.
"""
_NAMES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}


class Row(typing.NamedTuple):
    """One setting: its path with dots, its type and default in YAML's terms, and its meaning."""

    path: str
    kind: str
    default: str
    meaning: str


def reference() -> str:
    """The page, in Markdown."""
    settings = schema()["properties"]
    sections = {name: section for name, one in settings.items() if (section := _keys(one))}
    parts = [_INTRODUCTION, _table(_row(name, one) for name, one in settings.items() if name not in sections)]
    for name, section in sections.items():
        optional = "\nNot there by default.\n" if settings[name].get("default", "") is None else ""
        parts += [f"## `{name}`\n\n{section['description']}\n{optional}", _table(rows(section, f"{name}."))]
    return "\n".join(parts)


def rows(section: dict[str, Any], prefix: str = "") -> Iterator[Row]:
    """The settings of a section and of those within it, in their order.

    Args:
        section: its JSON Schema.
        prefix: of their paths, such as `data.`.
    """
    for name, one in section["properties"].items():
        yield _row(prefix + name, one)
        if inner := _keys(one):
            yield from rows(inner, f"{prefix}{name}.")
        elif inner := _keys(one.get("additionalProperties")):
            yield from rows(inner, f"{prefix}{name}.<name>.")


def paths() -> list[str]:
    """Of all settings."""
    return [row.path for row in rows(schema())]


def _row(path: str, one: dict[str, Any]) -> Row:
    return Row(path, _kind(one), json.dumps(one["default"]) if "default" in one else "", one["description"])


def _table(found: Iterable[Row]) -> str:
    lines = ["| setting | type | default | |", "|---|---|---|---|"]
    for row in found:
        kind, meaning = (text.replace("|", "\\|") for text in (row.kind, row.meaning))
        lines.append(f"| `{row.path}` | {kind} | {f'`{row.default}`' if row.default else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


def _keys(one: Any) -> dict[str, Any] | None:
    """The section that a setting is, or may be; None for a value, and for Beam's engines, which have their own page."""
    found = [kind for kind in (one or {}).get("anyOf", [one]) if kind and "properties" in kind]
    return found[0] if len(found) == 1 else None


def _kind(one: dict[str, Any]) -> str:
    if "anyOf" in one:
        return " | ".join(dict.fromkeys(map(_kind, one["anyOf"])))
    if "enum" in one:
        return " | ".join(one["enum"])
    if one["type"] == "array":
        inner = one.get("prefixItems")
        return f"[{', '.join(map(_kind, inner))}]" if inner else f"list of {_kind(one['items'])}"
    if one["type"] == "object":
        return "keys" if "properties" in one else f"mapping of names to {_kind(one['additionalProperties'])}"
    return _NAMES.get(one["type"], one["type"])
