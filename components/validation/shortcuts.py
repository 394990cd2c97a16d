"""Shortcuts: columns that predict a class without looking at the image, such as its format, brightness or camera.

If all scans are tulips, a network may learn the scanner (Geirhos et al., Shortcut Learning in Deep Neural Networks,
2020). For each column alone, a small decision tree predicts the class out of fold; it is measured by how well it tells
one class from all others, as balanced accuracy: the mean of sensitivity and specificity, which is one half by chance,
however many images and classes there are.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from components.evaluation.intervals import wilson
from components.ingestion.slice_features import NAMES
from core import examples, slices, tfrecords
from core.artifacts.validation import Shortcut
from core.artifacts.verdict import Range

IMAGES = 20_000
"""The most images examined; more would add little."""

STRONG = 0.85
"""A balanced accuracy that deserves a note if it is exceeded with certainty."""

_FOLDS = 5  # a class needs as many images
_MOST_LEAVES, _SMALLEST_LEAF = 64, 5
_VALUES = 20  # of a column of words; those that are rarer count as one
_BUCKETS = [slices.feature_of(name) for name in NAMES if name != "format"]  # whose numbers are there, too


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is known about images apart from their pixels: the class of each, and a value for every column."""

    labels: Sequence[str]
    values: Mapping[str, Sequence[str | float]]


def read_columns(records: Iterable[bytes], excluded: Sequence[str]) -> Columns:
    """Reads columns from raw tf.Examples: image statistics, format and metadata, except `excluded` features."""
    labels: list[str] = []
    values: dict[str, list[str | float]] = collections.defaultdict(list)
    for record in records:
        features = tf.train.Example.FromString(record).features.feature
        labels.append(tfrecords.text(features[examples.LABEL].bytes_list.value[0]))
        for name, value in _values(features, excluded):
            values[name].append(value)
    whole = {name: column for name, column in values.items() if len(column) == len(labels)}
    return Columns(labels, whole)


def _values(features: Mapping[str, tf.train.Feature], excluded: Sequence[str]) -> Iterator[tuple[str, str | float]]:
    numbers = {}
    for name, feature in features.items():
        if found := feature.int64_list.value or feature.float_list.value:
            numbers[name] = found[0]
        elif slices.is_slice(name) and name not in (examples.LABEL, *_BUCKETS, *excluded):
            yield slices.name_of(name), tfrecords.text(next(iter(feature.bytes_list.value), b""))
    if examples.WIDTH in numbers and examples.HEIGHT in numbers:
        numbers["aspect ratio"] = numbers[examples.WIDTH] / numbers[examples.HEIGHT]
    for name, number in numbers.items():
        yield name.rpartition("/")[2], number


def find_shortcuts(columns: Columns) -> list[Shortcut]:
    """For each column, the class that it alone separates best from the others; the strongest column first.

    Columns with a single value, and classes with fewer images than there are folds, are left out.
    """
    counts = collections.Counter(columns.labels)
    kept = np.array([counts[label] >= _FOLDS for label in columns.labels], bool)
    names, labels = np.unique(np.array(columns.labels, object)[kept].astype(str), return_inverse=True)
    if len(names) < 2:
        return []
    leaves = min(_MOST_LEAVES, 4 * len(names))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves, min_samples_leaf=_SMALLEST_LEAF, class_weight="balanced", random_state=0
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    found = []
    for name, column in columns.values.items():
        table = _table([value for value, keep in zip(column, kept, strict=True) if keep])
        if table.shape[1]:
            predicted = cross_val_predict(tree, table, labels, cv=folds)
            told = [_told(predicted == number, labels == number) for number in range(len(names))]
            best = int(np.argmax([accuracy.value or 0.0 for accuracy in told]))
            found.append(Shortcut(name, str(names[best]), told[best]))
    return sorted(found, key=lambda shortcut: -(shortcut.balanced_accuracy.value or 0))


def _table(column: Sequence[str | float]) -> np.ndarray:
    """Numbers as they are, float [n, 1]; a 0/1 column for each word; none if all values are equal."""
    if not any(isinstance(value, str) for value in column):
        numbers = np.array(column, np.float64).reshape(-1, 1)
        return numbers[:, np.ptp(numbers, axis=0) > 0]
    frequent = [value for value, _ in collections.Counter(column).most_common(_VALUES)]
    words = np.array([[value == one for one in frequent] for value in column], np.float64)
    return words if len(set(column)) > 1 else words[:, :0]


def _told(predicted: np.ndarray, actual: np.ndarray) -> Range:
    """Balanced accuracy for one class against the others, with 95% limits by Newcombe's square-and-add (1998)."""
    recall = wilson(int((predicted & actual).sum()), int(actual.sum()))
    specificity = wilson(int((~predicted & ~actual).sum()), int((~actual).sum()))
    value = (recall.value + specificity.value) / 2
    below = math.hypot(recall.value - recall.low, specificity.value - specificity.low) / 2
    above = math.hypot(recall.high - recall.value, specificity.high - specificity.value) / 2
    return Range(value, value - below, value + above)


def judge(found: Sequence[Shortcut], most: float | None) -> tuple[list[str], list[str]]:
    """Problems and notes: columns that predict a class with certainty better than `most`, the bound, or than usual."""
    problems, notes = [], []
    for shortcut in found:
        accuracy = shortcut.balanced_accuracy
        said = (
            f"{shortcut.column} alone tells {shortcut.label!r} from the other classes: balanced accuracy "
            f"{accuracy.value:.1%} (95% CI {accuracy.low:.1%} to {accuracy.high:.1%}; chance 50%)"
        )
        advice = "the model may learn that instead of the picture: take pictures of every class in the same way"
        if most is not None and accuracy.low is not None and accuracy.low > most:
            problems.append(f"{said}; {advice}, or raise data.bounds.shortcut, {most:g}")
        elif accuracy.low is not None and accuracy.low > STRONG:
            notes.append(f"{said}; {advice}")
    return problems, notes
