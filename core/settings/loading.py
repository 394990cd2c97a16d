"""Reads a settings file and `SET`, checks everything before anything runs, and reports all mistakes at once.

    settings = load("configs/flowers.yaml", ["training.batch_size=32"])

A relative path in the file is meant from the file's folder, one in an override from the current directory: so a run is
the same from wherever it is started.

An unknown key is refused with the nearest known one, a wrong type or an impossible combination with the path of the
setting and what would be right.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core.errors import InputError
from core.settings.converter import from_dict
from core.settings.data import TFDS
from core.settings.messages import mistakes
from core.settings.schema import fields, schema
from core.settings.settings import Settings

_QUOTED = re.compile(r"""(?<![^\s=:,\[{])(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""")
_BRACKETS = re.compile(r"[\[{][^\[\]{}]*[\]}]")
_IN_QUOTES = re.compile(r"""["'][A-Za-z_][\w.]*=""")
_NEXT = re.compile(r"\s+(?=[A-Za-z_][\w.]*=)")


def load(path: str | Path, overrides: Iterable[str] = ()) -> Settings:
    """Reads, overrides and checks a settings file.

    Args:
        path: a YAML 1.2 file; the paths in it are relative to its folder.
        overrides: `path.of.setting=value`, the value in YAML; later ones win. Paths are relative to the current
            directory.

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
    in_file = _with_absolute_paths(in_file, schema(), path.absolute().parent)
    values = copy.deepcopy(in_file)
    for override in overrides:
        _apply(values, override)
    if problems := _check(values):
        of_file = _check(in_file)
        parts = (
            ("SET", [line for line in problems if line not in of_file]),
            (path, [line for line in problems if line in of_file]),
        )
        raise InputError("\n".join(f"{where}: " + "\n".join(lines) for where, lines in parts if lines))
    settings = from_dict(_in_full(values), Settings)
    msgspec.structs.force_setattr(settings, "given", frozenset(_paths(values)))
    return settings


def split_overrides(given: Iterable[str]) -> list[str]:
    """`a=1 b=[2, 3] c="d e=f"` is three overrides.

    One begins at every `path=` that follows a blank, but not between quotes or brackets, which stay part of the value.
    Quotes around all of one, as a shell takes them off, are taken off: `"c=d e=f"`.
    """
    found = []
    for text in given:
        bare = _QUOTED.sub(lambda match: ("_=" if _IN_QUOTES.match(match[0]) else "__").ljust(len(match[0]), "_"), text)
        while (hidden := _BRACKETS.sub(lambda match: "_" * len(match[0]), bare)) != bare:
            bare = hidden
        cuts = [0, *(place for match in _NEXT.finditer(bare) for place in match.span()), len(text)]
        parts = (text[start:end].strip() for start, end in zip(cuts[::2], cuts[1::2], strict=True))
        found += [
            " ".join(shlex.split(part)) if _IN_QUOTES.match(part) and _QUOTED.fullmatch(part) else part
            for part in parts
            if part
        ]
    return found


def _check(values: dict[str, Any]) -> list[str]:
    """A line for every mistake: of form, and in what is of the right form, of what cannot work together."""
    problems, full = list(mistakes(schema(), values)), _in_full(values)
    broken = {re.split(r"\W", line)[0] for line in problems}
    for key, (_, kind) in fields(Settings).items():
        if key in full and key not in broken:
            problems += _refusals(kind, full[key], key)
    return problems or _refusals(Settings, full)


def _in_full(values: dict[str, Any]) -> dict[str, Any]:
    """A copy with the short forms of `training.learning_rate` and `runtime.beam` written out."""
    values = copy.deepcopy(values)
    training, runtime = values.get("training"), values.get("runtime")
    if isinstance(training, dict) and isinstance(rate := training.get("learning_rate"), int | float):
        training["learning_rate"] = {"values": [rate]}
    if isinstance(runtime, dict) and isinstance(beam := runtime.get("beam"), str | list | dict):
        given = {"engine": beam} if isinstance(beam, str) else {"options": beam} if isinstance(beam, list) else beam
        runtime["beam"] = {"engine": "local", **given}
    return values


def _refusals(kind: Any, value: Any, path: str = "") -> list[str]:
    """A line, with its path, for what the classes of settings within a type, or else its own, say against a value."""
    problems = []
    for key, (_, inner) in fields(kind).items():
        if value is not None and key in value:
            problems += _refusals(inner, value[key], f"{path}.{key}".lstrip("."))
    if problems:
        return problems
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, InputError) as error:
        said = str(error.__cause__ or error)
        named = re.match(r"(\w+)(\.| is )", said)
        dotted = f"{path}." if named and named[1] in value else f"{path}: "
        return [said if not path or said.startswith(f"{path}.") else f"{dotted}{said}"]
    return []


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
        hint = "; text that begins with * or & needs quotes" if "undefined alias" in problem else ""
        raise InputError(f"{where}{at}: not valid YAML: {problem}{hint}") from error
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
    kind = schema()
    for part in parts:
        kind = next((section[part] for section in _sections(kind) if part in section), {})
    node[parts[-1]] = _with_absolute_paths(_parse_yaml(text, f"SET {key}"), kind, Path.cwd())


def _with_absolute_paths(value: Any, kind: dict[str, Any], folder: Path) -> Any:
    """A value of a JSON Schema, whatever of it is a relative path made one from `folder`."""
    if isinstance(value, dict):
        sections = _sections(kind)
        kinds: dict[Any, dict[str, Any]] = {
            key: next((section[key] for section in sections if key in section), {}) for key in value
        }
        return {key: _with_absolute_paths(inner, kinds[key], folder) for key, inner in value.items()}
    for one in kind.get("anyOf", [kind]):
        is_path = isinstance(value, str) and one.get("format") == "path" and value not in one.get("examples", ())
        if is_path and value.strip() and "://" not in value and not value.startswith(TFDS):
            try:
                return os.path.normpath(folder / Path(value).expanduser())
            except RuntimeError:
                raise InputError(
                    f"{value}: it is not known where the home {value.split('/')[0]} is; give the whole path"
                ) from None
    return value


def _sections(kind: dict[str, Any]) -> list[dict[str, Any]]:
    """By their names, the JSON Schemas of the settings within one that may be a section, or one of several."""
    return [one["properties"] for one in kind.get("anyOf", [kind]) if "properties" in one]
