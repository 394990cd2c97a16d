"""docs/settings.md: every setting with its type, its default and what it means, from the settings' JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from core.settings.messages import words
from core.settings.schema import schema

_INTRODUCTION = """\
# All settings

A settings file is YAML: the keys below, nested as the dots say. What it leaves out has the default shown; `name` and
`data.images` have none. `SET="path.of.setting=value …"` overrides any of them for one run. A key that does not exist, a
value of the wrong type and a combination that cannot work are refused before anything runs, all at once; a setting that
has no effect beside the others is noted when a run starts. A relative path is meant from the folder of the settings
file, in `SET` and its shorthands from the current directory; `~` is the home.

This page and `schemas/settings.schema.json`, with which editors complete and check a settings file, are made from the
classes that hold the settings: `make schemas`, or `python -m core.schemas`.
"""


def reference() -> str:
    """The page, in Markdown."""
    settings = schema()["properties"]
    sections = {name: section for name, one in settings.items() if (section := _keys(one))}
    parts = [_INTRODUCTION, _table(one for one in settings.items() if one[0] not in sections)]
    for name, section in sections.items():
        optional = "\nOff by default: null.\n" if settings[name].get("default", "") is None else ""
        parts += [f"## `{name}`\n\n{section['description']}\n{optional}", _table(rows(section, f"{name}."))]
    return "\n".join(parts)


def rows(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and JSON Schema of the settings of a section and of those within it, in their order."""
    for name, one in section["properties"].items():
        yield prefix + name, one
        if inner := _keys(one):
            yield from rows(inner, f"{prefix}{name}.")
        elif inner := _keys(one.get("additionalProperties")):
            yield from rows(inner, f"{prefix}{name}.<name>.")


def paths() -> list[str]:
    """Of all settings."""
    return [path for path, _ in rows(schema())]


def _table(found: Iterable[tuple[str, dict[str, Any]]]) -> str:
    lines = ["| setting | type | default | |", "|---|---|---|---|"]
    for path, one in found:
        default = f"`{json.dumps(one['default'])}`" if "default" in one else ""
        lines.append(f"| `{path}` | {words(one)} | {default} | {one['description']} |")
    return "\n".join(lines) + "\n"


def _keys(one: Any) -> dict[str, Any] | None:
    """The section that a setting is, or may be; None for a value, and for Beam's engines, which have their own page."""
    found = [kind for kind in (one or {}).get("anyOf", [one]) if kind and "properties" in kind]
    return found[0] if len(found) == 1 else None
