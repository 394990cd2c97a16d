"""Reads a settings file and `SET`, checks everything before anything runs, and reports all mistakes at once.

    settings = load("configs/flowers.yaml", ["training.batch_size=32"])

An unknown key is refused with the nearest known one, a wrong type or an impossible combination with the path of the
setting and what would be right.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core.errors import InputError
from core.settings.checks import fields
from core.settings.converter import build
from core.settings.messages import mistakes
from core.settings.schema import schema
from core.settings.settings import Settings

_QUOTED = re.compile(r"""(?<![^\s=:,\[{])(?:"(?:[^"\\]|\\.)*"|'[^']*')""")
_BRACKETS = re.compile(r"[\[{][^\[\]{}]*[\]}]")
_WHOLE = re.compile(r"""["'][A-Za-z_][\w.]*=""")
_NEXT = re.compile(r"\s+(?=[A-Za-z_][\w.]*=)")


def load(path: str | Path, overrides: Iterable[str] = ()) -> Settings:
    """Reads, overrides and checks a settings file.

    Args:
        path: a YAML 1.2 file.
        overrides: `path.of.setting=value`, the value in YAML; later ones win.

    Raises:
        InputError: every mistake in the file and the overrides, one a line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the settings {path}: not UTF-8 text ({error.reason})") from error
    in_file = _parse_yaml(text, str(path))
    if not isinstance(in_file, dict):
        found = "nothing" if in_file is None else "a list" if isinstance(in_file, list) else "a single value"
        raise InputError(f"{path}: settings are a mapping of keys to values, found {found}")
    values = copy.deepcopy(in_file)
    for override in overrides:
        _apply(values, override)
    settings, problems = _check(values)
    if problems:
        of_file = _check(in_file)[1]
        parts = (
            ("SET", [line for line in problems if line not in of_file]),
            (path, [line for line in problems if line in of_file]),
        )
        raise InputError("\n".join(f"{where}: " + "\n".join(lines) for where, lines in parts if lines))
    object.__setattr__(settings, "given", frozenset(_paths(values)))
    return settings


def split_overrides(given: Iterable[str]) -> list[str]:
    """`a=1 b=[2, 3] c="d e=f"` is three overrides.

    One begins at every `path=` that follows a blank, but not between quotes or brackets, which stay part of the value.
    Quotes around all of one, as a shell takes them off, are taken off: `"c=d e=f"`.
    """
    found = []
    for text in given:
        bare = _QUOTED.sub(lambda match: ("_=" if _WHOLE.match(match[0]) else "__").ljust(len(match[0]), "_"), text)
        while (hidden := _BRACKETS.sub(lambda match: "_" * len(match[0]), bare)) != bare:
            bare = hidden
        cuts = [0, *(place for match in _NEXT.finditer(bare) for place in match.span()), len(text)]
        parts = (text[start:end].strip() for start, end in zip(cuts[::2], cuts[1::2], strict=True))
        found += [
            " ".join(shlex.split(part)) if _WHOLE.match(part) and _QUOTED.fullmatch(part) else part
            for part in parts
            if part
        ]
    return found


def _check(values: dict[str, Any]) -> tuple[Any, list[str]]:
    """The settings, or None, and a line for every mistake in them."""
    problems = list(mistakes(schema(), values))
    if not problems:
        return build(Settings, values, "", problems), problems
    broken = {line[: len(key)] for line in problems for key in fields(Settings) if re.match(rf"{key}\b", line)}
    for key in fields(Settings).keys() & values.keys() - broken:
        build(fields(Settings)[key][1], values[key], key, problems)
    return None, problems


def _paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = (error.problem or "").split("\n")[0]
        raise InputError(f"{where}{at}: not valid YAML: {problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not valid YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}"
        ) from error


def _apply(values: dict[str, Any], override: str) -> None:
    """Sets one `path.of.setting=value`."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"SET: {override!r} is not of the form path.of.setting=value")
    node = values
    for depth, part in enumerate(parts[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            here = ".".join(parts[: depth + 1])
            raise InputError(f"SET: {override!r}: {here} is {child!r}, it has no keys of its own")
        node = child
    node[parts[-1]] = _parse_yaml(text, f"SET {key}")
