"""What all sections of the settings share: bounds of numbers stand in the types, and the base class checks them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import math
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from msgspec import Meta

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
FractionBelow1 = Annotated[float, Meta(ge=0, lt=1)]

_COMPARED = {
    "ge": ("at least", float.__ge__),
    "gt": ("above", float.__gt__),
    "le": ("at most", float.__le__),
    "lt": ("below", float.__lt__),
}


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message, which is for the user, where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def nearest(name: str, known: Iterable[str], prefix: str = "", listed: str = "known are") -> str:
    """The end of a message on a name that is not known: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"{listed} {', '.join(names)}"


@dataclasses.dataclass(frozen=True)
class Checked:
    """A section of the settings. Numbers must be finite, and within the bounds that their types are annotated with."""

    def __post_init__(self) -> None:
        cls: Any = type(self)
        problems = [p for name, kind in fields(cls) for p in _problems(name, getattr(self, name), kind)]
        require(not problems, "\n".join(problems))


@functools.cache
def fields(cls: Any) -> list[tuple[str, Any]]:
    """Names and types of what a section consists of, bounds included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(cls) if field.init]


def is_union(kind: Any) -> bool:
    """Whether a type is `A | B`."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _problems(name: str, value: Any, kind: Any) -> Iterator[str]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is {value}; it must be a finite number"
    elif origin is Annotated:
        bounds = {key: getattr(args[1], key) for key in _COMPARED if getattr(args[1], key) is not None}
        one_of = (args[1].extra_json_schema or {}).get("enum", [value])
        if not all(_COMPARED[key][1](float(value), float(bound)) for key, bound in bounds.items()):
            yield f"{name} is {value:g}; it must be {_in_words(bounds)}"
        if value not in one_of:
            yield f"{name} is {value!r}; it must be one of {', '.join(one_of)}"
    elif is_union(kind) and value is not None:
        or_null = ", or null" if type(None) in args else ""
        yield from (f"{problem}{or_null}" for arg in args for problem in _problems(name, value, arg))
    elif origin is tuple:
        items = zip(value, itertools.repeat(args[0]) if args[-1] is Ellipsis else args, strict=False)
        yield from (problem for item, arg in items for problem in _problems(name, item, arg))
    elif origin is dict:
        for item in value.values():
            yield from _problems(name, item, args[1])


def _in_words(bounds: dict[str, float]) -> str:
    words = " and ".join(f"{_COMPARED[key][0]} {bound}" for key, bound in bounds.items())
    if "ge" in bounds and len(bounds) == 2:
        words = words.replace("at least", "from").replace("and at most", "to").replace("and below", "to below")
    return f"a fraction, {words}" if 1 in (bounds.get("le"), bounds.get("lt")) else words
