"""Reads a settings file and `SET`, checks everything before anything runs, and reports all mistakes at once.

    settings = load("configs/flowers.yaml", ["training.batch_size=32"])

A relative path in the file is resolved against the file's folder, one in an override against the current directory, so
that a run is the same wherever it is started.

An unknown key is refused with the closest known one, a wrong type or an impossible combination with the setting's path
and what would be right.
"""

from __future__ import annotations

import copy
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from core.errors import InputError
from core.settings.converter import from_dict
from core.settings.data import TFDS
from core.settings.messages import mistakes, shortened, shown
from core.settings.schema import fields, schema
from core.settings.secret_values import secret_values
from core.settings.settings import Settings

_MAX_TEXT = 2**18  # characters of a settings file, and of its values with every alias written out; most have 2,000
_MAX_DEPTH = 32  # of values within values; settings have six
_MAX_LINES = 50  # of mistakes that are told

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
        InputError: every mistake in the file and the overrides, one per line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_TEXT + 1)
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
        raise InputError("\n".join(f"{where}: {_first(lines)}" for where, lines in parts if lines))
    settings = from_dict(_in_full(values), Settings)
    msgspec.structs.force_setattr(settings, "given", frozenset(_paths(values)))
    return settings


def split_overrides(given: Iterable[str]) -> list[str]:
    """Splits `a=1 b=[2, 3] c="d e=f"` into three overrides.

    An override begins at every `path=` after a blank, except within quotes or brackets, which are part of the value.
    Quotes around an entire override, as in `"c=d e=f"`, are removed, as a shell does.
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


def _first(lines: list[str]) -> str:
    return "\n".join([*lines[:_MAX_LINES], *(["and more"] if len(lines) > _MAX_LINES else [])])


def _check(values: dict[str, Any]) -> list[str]:
    """A line for every mistake: first of form; if the form is right, of combinations that cannot work.

    If the values contain secrets, only these are reported, since other lines may quote them.
    """
    if secret := [*itertools.islice(secret_values(values), _MAX_LINES + 1)]:
        return secret
    problems, full = [*itertools.islice(mistakes(schema(), values), _MAX_LINES + 1)], _in_full(values)
    if len(problems) > _MAX_LINES:  # not all are known, and what is broken must not reach the classes
        return problems
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
    """A line, with the setting's path, for each objection of the nested settings classes, or else of the outer one."""
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
    if len(text) > _MAX_TEXT:
        raise InputError(f"{where}: settings have at most {_MAX_TEXT:,} characters; this is another kind of file")
    try:
        yaml = YAML(typ="safe", pure=True)
        if _measure(yaml.compose(text), {})[0] > _MAX_TEXT:
            raise InputError(
                f"{where}: with every alias (*) written out, its values have more than {_MAX_TEXT:,} characters"
            )
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = (error.problem or "").split("\n")[0].split(" with value ")[0]  # which may be a secret
        hint = ""
        if "undefined alias" in problem:
            hint = "; text that begins with * or & needs quotes"
        elif "character '\\t'" in problem:
            hint = "; indent with blanks, not with tabs"
        elif "${" in text:
            hint = '; text with ${…} needs quotes within brackets, as ["--option=${env:NAME}"]'
        raise InputError(f"{where}{at}: not valid YAML: {shortened(problem)}{hint}") from error
    except TypeError as error:  # ruamel cannot hash such a key
        raise InputError(
            f"{where}: not valid YAML: a key is a list of lists; keys are the names of settings"
        ) from error
    except RecursionError:
        raise InputError(f"{where}: not valid YAML: values within values, more than {_MAX_DEPTH} deep") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{where}: not valid YAML: {shortened(str(error).splitlines()[0])}") from error


def _measure(node: Node | None, known: dict[int, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """Size (characters and values) and depth of a YAML document with every alias expanded, which can be billions.

    Raises RecursionError if it is too deep, or a value contains itself.
    """
    if isinstance(node, CollectionNode):
        if id(node) not in known and depth <= _MAX_DEPTH:
            pairs = node.value if isinstance(node, MappingNode) else [(one,) for one in node.value]
            inner = [_measure(one, known, depth + 1) for pair in pairs for one in pair]
            known[id(node)] = 1 + sum(size for size, _ in inner), 1 + max((deep for _, deep in inner), default=0)
        size, deep = known.get(id(node), (1, 1))
        if depth + deep > _MAX_DEPTH:
            raise RecursionError
        return size, deep
    return (len(node.value) + 1 if node else 0), 0


def _apply(values: dict[str, Any], override: str) -> None:
    """Sets one `path.of.setting=value`."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > _MAX_DEPTH:
        raise InputError(f"SET: {shown(override)} is not of the form path.of.setting=value")
    node = values
    for depth, part in enumerate(parts[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            here = ".".join(parts[: depth + 1])
            raise InputError(f"SET: {shortened(key.strip())}: {shortened(here)} has no keys of its own")
        node = child
    kind = schema()
    for part in parts:
        kind = next((section[part] for section in _sections(kind) if part in section), {})
    node[parts[-1]] = _with_absolute_paths(_parse_yaml(text, f"SET {shortened(key)}"), kind, Path.cwd())


def _with_absolute_paths(value: Any, kind: dict[str, Any], folder: Path) -> Any:
    """The value with every relative path in it, according to its JSON Schema, resolved against `folder`."""
    if isinstance(value, dict):
        sections = _sections(kind)
        kinds: dict[Any, dict[str, Any]] = {
            key: next((section[key] for section in sections if key in section), {}) for key in value
        }
        return {key: _with_absolute_paths(inner, kinds[key], folder) for key, inner in value.items()}
    for one in kind.get("anyOf", [kind]):
        is_path = isinstance(value, str) and one.get("format") == "path" and value not in one.get("examples", ())
        if is_path and value.strip() and "://" not in value and not value.startswith((TFDS, "${")):
            try:
                return os.path.normpath(folder / Path(value).expanduser())
            except RuntimeError:
                raise InputError(
                    f"{value}: it is not known where the home {value.split('/')[0]} is; give the whole path"
                ) from None
    return value


def _sections(kind: dict[str, Any]) -> list[dict[str, Any]]:
    """The properties of a JSON Schema, or of each of its alternatives, that is a section."""
    return [one["properties"] for one in kind.get("anyOf", [kind]) if "properties" in one]
