"""How to measure slices by features of many values, such as a thousand classes or patients.

TFMA takes milliseconds per metric and slice, so it gets only features, and crosses of features, with few values. For
the others, ModelGate measures the slices from individual predictions, which is faster: those with the most images, and
all that a bound may apply to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.artifacts.predictions import Prediction
from core.examples import LABEL
from core.slices import feature_keys, name_of

TFMA_VALUES = 100
"""The most values of a feature, or combinations of a cross, that TFMA measures."""

LARGEST = 1000
"""How many slices of every other feature or cross the gate measures, whatever the bounds."""


def few_valued(crosses: Iterable[Sequence[str]], examples: Iterable[Mapping[str, bytes]]) -> list[bool]:
    """For each cross of features, whether the examples have at most `TFMA_VALUES` combinations of its values."""
    wanted = [tuple(cross) for cross in crosses]
    found: list[set[tuple[bytes | None, ...]]] = [set() for _ in wanted]
    for features in examples:
        for cross, values in zip(wanted, found, strict=True):
            if len(values) <= TFMA_VALUES:
                values.add(tuple(features.get(feature) for feature in cross))
    return [len(values) <= TFMA_VALUES for values in found]


def crossed_names(slices: Iterable[str]) -> list[tuple[str, ...]]:
    """The names of the features crossed by each slice in the settings, in TFMA's order."""
    return [tuple(map(name_of, sorted(keys))) for keys in feature_keys(slices)]


def images_by_value(predictions: Sequence[Prediction], names: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Indices of the images by their values of these features; without names, all of them under ()."""
    found: dict[tuple[str, ...], list[int]] = {}
    for place, prediction in enumerate(predictions):
        values = [prediction.label if name == LABEL else prediction.slices.get(name) for name in names]
        if None not in values:
            found.setdefault(tuple(map(str, values)), []).append(place)
    return found


def largest(slices: Mapping[tuple[str, ...], Sequence[int]], bounded: int | None) -> list[tuple[str, ...]]:
    """The values of the slices to measure: the largest, and all of at least `bounded` images."""
    by_size = sorted(slices, key=lambda values: (-len(slices[values]), values))
    return [
        values
        for number, values in enumerate(by_size)
        if number < LARGEST or (bounded is not None and len(slices[values]) >= bounded)
    ]
