"""Measures accuracy in production with labels that arrive later, in a table of file names."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation.intervals import as_range, wilson
from components.ingestion.layouts.tables import read_table
from components.monitoring.comparison import LEAST, measured_change
from core.artifacts.monitoring import Finding, Measured, Observation, Reference
from core.artifacts.verdict import Range
from core.csv_cells import UNDO
from core.errors import InputError, some

FILE, LABEL, WHY, RANDOM = "file_name", "label", "why", "random"
"""Columns of `label_next.csv`, which is given back with labels in it, and the reason of images that stand for all."""


class Labels:
    """Labels by file name, matched with the observations as they come."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Reads a table with the columns `file_name` and `label`; rows without a label are skipped.

        Raises:
            InputError: it cannot be read, or lacks a column.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"the labels {path} cannot be read: {error.strerror}") from error
        table = read_table(str(path), data, lambda names: sum(name in names for name in (FILE, LABEL)))
        if missing := [name for name in (FILE, LABEL) if name not in table.columns]:
            found = f", but {', '.join(table.columns)}" if any(table.columns) else ", and is empty"
            raise InputError(f"{path} has no column {' and no column '.join(missing)}{found}: name them so")
        places = {name: table.columns.index(name) for name in (FILE, LABEL, WHY) if name in table.columns}
        self._classes = classes
        self._labels: dict[str, str] = {}
        self._chosen: set[str] = set()
        self._contradicted: set[str] = set()
        for _, values in table.rows():
            row = {name: UNDO.sub(r"\1", values[place]) for name, place in places.items() if place < len(values)}
            if row.get(FILE) and row.get(LABEL):
                if self._labels.setdefault(row[FILE], row[LABEL]) != row[LABEL]:
                    self._contradicted.add(row[FILE])
                if row.get(WHY, RANDOM) != RANDOM:
                    self._chosen.add(row[FILE])
        for file in self._contradicted:
            del self._labels[file]
        self._right: dict[str, bool] = {}
        self._slices: dict[str, list[bool]] = collections.defaultdict(list)

    def add(self, one: Observation) -> None:
        """Compares an image's label, if it has one, with the model's prediction."""
        label = self._labels.get(one.path)
        if label is None or one.path in self._right:
            return
        best = max(range(len(one.probabilities)), key=one.probabilities.__getitem__) if one.probabilities else None
        right = self._right[one.path] = best is not None and self._classes[best] == label
        if one.path not in self._chosen:
            for feature, value in {LABEL: label, **one.slices}.items():
                self._slices[f"{feature}={value}"].append(right)

    def measure(self, reference: Reference) -> tuple[Measured, list[Finding]]:
        """The measured accuracy, and how it compares with the test split's."""
        confidence = reference.bounds.confidence
        used = [right for path, right in self._right.items() if path not in self._chosen]
        notes = []
        if files := sorted(self._contradicted):
            notes.append(f"{len(files)} images have several labels, and none counts: {some(files, shown=3)}")
        if lost := sorted(self._labels.keys() - self._right.keys()):
            notes.append(f"{len(lost)} labels are of images that are not here: {some(lost, shown=3)}")
        if unknown := sorted({*self._labels.values()} - {*self._classes}):
            notes.append(f"the model has no class {some(unknown)}: it is wrong about those images")
        if chosen := len(self._right) - len(used):
            notes.append(
                f"{chosen} labels are of images that were chosen because they are uncertain or novel, and do not count "
                "in the accuracy: they are no sample of production"
            )
        enough = len(used) >= LEAST
        if not enough:
            notes.append(f"{len(used)} labels are of images that stand for production; {LEAST} are the least")
        by_slice: Mapping[str, Range] = {
            name: as_range(wilson(sum(right), len(right), confidence))
            for name, right in sorted(self._slices.items())
            if len(right) >= LEAST
        }
        accuracy = as_range(wilson(sum(used), len(used), confidence)) if enough else Range(None)
        measured = Measured(len(self._right), len(used), accuracy, dict(by_slice), notes)
        return measured, [measured_change(sum(used), len(used), reference)] if enough else []
