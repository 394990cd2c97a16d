"""What the sections of the settings share: types with bounds, which the JSON Schema states, and `require`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Meta

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
FractionBelow1 = Annotated[float, Meta(ge=0, lt=1)]


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message, which is for the user, where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def nearest(name: str, known: Iterable[str], prefix: str = "", listed: str = "known are") -> str:
    """The end of a message on a name that is not known: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"{listed} {', '.join(names)}"


@functools.cache
def fields(cls: Any) -> dict[str, Any]:
    """The settings of a class by their names in YAML: field and type, bounds included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        "from" if field.name == "from_layer" else field.name: (field, hints[field.name])
        for field in dataclasses.fields(cls)
        if field.init
    }


def is_union(kind: Any) -> bool:
    """Whether a type is `A | B`."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)
