"""What Predictor leaves: what the candidate and the last blessed model predict for every test image."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core import atomic_io
from core.artifacts.base import Artifact, JsonLines

PREDICTIONS = Artifact("Predictor", "predictions")

MATERIALIZED_PREDICTIONS = Artifact("Predictor", "materialized_predictions")
"""tf.Examples without images, for TFMA: slices, `TARGET`, and of each model its probabilities as a feature of its
name, in the order of the candidate's classes."""

CANDIDATE, BASELINE = "candidate", "baseline"
"""The models, by TFMA's names."""

TARGET = "label_xf"
"""Feature of the materialized predictions: the number of the true class, -1 if the candidate does not know it."""

COMPARED = "compared"
"""Property of both artifacts: 1 if they hold the baseline's predictions."""

NOT_COMPARED = "not_compared"
"""Property of the predictions: why they do not, in a sentence; absent if they do."""

_SCORES_FILE = "scores.npz"
_CLASSES = "classes"


@dataclasses.dataclass(frozen=True, slots=True)
class Classification:
    """What one model predicts for one image.

    Attributes:
        predicted: the most probable class; empty if the model could not read the image.
        probability: of `predicted`.
        label_probability: of the true class; 0 if the model does not know that class.
        rank: of the true class, 1 being the most probable; one more than there are classes if it is not known.
    """

    predicted: str
    probability: float
    label_probability: float
    rank: int


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What the candidate predicts for one image, and the baseline for the same.

    Attributes:
        path: relative to the data folder.
        sha256: of the file.
        label: the true class.
        predicted: the candidate's, like the two that follow; see `Classification`.
        probability: of `predicted`.
        label_probability: of `label`.
        slices: the values of all slice features, by their names without `slice/`.
        rank: of `label`.
        baseline: the last blessed model's, None where there is none to compare with.
    """

    path: str
    sha256: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    slices: dict[str, str]
    rank: int = 1
    baseline: Classification | None = None

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.predicted == self.label

    @property
    def candidate(self) -> Classification:
        """The candidate's alone."""
        return Classification(self.predicted, self.probability, self.label_probability, self.rank)

    def is_in(self, name: str) -> bool:
        """Whether the image belongs to a slice of that name: `label=roses`, `label=roses, brightness=dark`."""
        values = {"label": self.label, **self.slices}
        parts = [f"{feature}={value}" for feature, value in values.items()]

        def consists_of_parts(text: str) -> bool:  # values may contain commas, so the name cannot simply be split
            return any(
                text == part or (text.startswith(f"{part}, ") and consists_of_parts(text[len(part) + 2 :]))
                for part in parts
            )

        return consists_of_parts(name)


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the models predict for all classes.

    Attributes:
        classes: the candidate's, in the order of its outputs.
        bins: by model `score_bins` of all probabilities, int16 [n, k], in the order of `read_predictions`.
    """

    classes: list[str]
    bins: Mapping[str, np.ndarray]


PREDICTIONS_FILE = JsonLines("predictions.jsonl", Prediction)
"""In no particular order."""


def read_predictions(folder: str | Path) -> list[Prediction]:
    """By path, and where that is the same by content; raises what `JsonLines.read` raises."""
    return sorted(PREDICTIONS_FILE.read(folder), key=lambda p: (p.path, p.sha256))


def write_scores(folder: str | Path, classes: Sequence[str], bins: Mapping[str, np.ndarray]) -> None:
    """Writes what `read_scores` reads."""
    content = io.BytesIO()
    np.savez_compressed(content, **{_CLASSES: np.array(classes, str), **bins})
    with atomic_io.open_file(f"{folder}/{_SCORES_FILE}", "wb") as file:
        file.write(content.getvalue())


def read_scores(folder: str | Path) -> Scores:
    """The scores beside the predictions."""
    with atomic_io.open_file(f"{folder}/{_SCORES_FILE}", "rb") as file, np.load(io.BytesIO(file.read())) as arrays:
        return Scores(arrays[_CLASSES].tolist(), {name: arrays[name] for name in arrays.files if name != _CLASSES})
