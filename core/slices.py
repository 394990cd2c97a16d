"""How slices are named: in the tf.Examples a feature each, in settings, verdicts and reports without its prefix."""

from __future__ import annotations

from collections.abc import Iterable

LABEL = "label"
"""The one slice that is a feature of every example anyway."""

_PREFIX = "slice/"


def feature_of(name: str) -> str:
    """The feature of the tf.Examples behind a slice of the settings: `label` itself, else `slice/<name>`."""
    return name if name == LABEL else f"{_PREFIX}{name}"


def is_slice(feature: str) -> bool:
    """Whether a feature of the tf.Examples is one that slices may name."""
    return feature == LABEL or feature.startswith(_PREFIX)


def name_of(feature: str) -> str:
    """The inverse of `feature_of`."""
    return feature.removeprefix(_PREFIX)


def title(parts: Iterable[tuple[str, str]]) -> str:
    """How a slice is called: `label=roses`, `label=roses, brightness=dark` where crossed, "" for the whole split."""
    return ", ".join(f"{name}={value}" for name, value in parts)
