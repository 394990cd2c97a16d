"""How slices are named: by a feature each in the tf.Examples; without its prefix in settings, verdicts and reports."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import InputError
from core.examples import LABEL

CROSS = "*"  # crosses features: `label*brightness`

_PREFIX = "slice/"


def feature_of(name: str) -> str:
    """The tf.Example feature for a slice in the settings: `label` itself, else `slice/<name>`."""
    return name if name == LABEL else f"{_PREFIX}{name}"


def is_slice(feature: str) -> bool:
    """Whether slices may use a feature of the tf.Examples."""
    return feature == LABEL or feature.startswith(_PREFIX)


def name_of(feature: str) -> str:
    """The inverse of `feature_of`."""
    return feature.removeprefix(_PREFIX)


def title(parts: Iterable[tuple[str, str]]) -> str:
    """The name of a slice: `label=roses`, `label=roses, brightness=dark` for a cross, "" for all images."""
    return ", ".join(f"{name}={value}" for name, value in parts)


def feature_keys(slices: Iterable[str]) -> list[list[str]]:
    """The features that each slice crosses. Raises InputError if one has an empty name, or is given twice."""
    crosses: list[list[str]] = []
    for name in slices:
        parts = [part.strip() for part in name.split(CROSS)]
        if not all(parts) or len(set(parts)) < len(parts):
            raise InputError(
                f"evaluation.slices: {name!r} is not a feature's name, nor different ones joined by {CROSS}"
            )
        cross = [feature_of(part) for part in parts]
        if sorted(cross) in map(sorted, crosses):
            raise InputError(f"evaluation.slices: {name!r} is given twice")
        crosses.append(cross)
    return crosses
