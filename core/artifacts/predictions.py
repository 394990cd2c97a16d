"""What Predictor writes: the predictions of the candidate and the last blessed model for every test image."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core import atomic_io
from core.artifacts.base import Artifact, JsonLines
from core.settings.export import ExportFormat

PREDICTIONS = Artifact("Predictor", "predictions")

MATERIALIZED_PREDICTIONS = Artifact("Predictor", "materialized_predictions")
"""tf.Examples without images, for TFMA: slices, `TARGET`, and a feature per model, named after it, with its
probabilities in the order of the candidate's classes."""

REGRESSIONS = Artifact("RegressionPredictor", "predictions")
"""The same for every image of `evaluation.regressions`."""

SPLIT = "test"  # the split that is classified

ALL = "*"  # in place of a split: all of them

CANDIDATE, BASELINE = "candidate", "baseline"
"""Names of the models, as in TFMA; an export of the candidate is named by its format."""

TARGET = "label_xf"
"""Feature of the materialized predictions: the number of the true class, -1 if the candidate does not know it."""

NOT_COMPARED = "not_compared"
"""Property of both artifacts: a sentence on why they hold no predictions of the baseline; absent if they do."""

FEATURES_DISAGREED = "features_disagreed"
"""Property of the predictions: why they were made again from the images; absent if the features sufficed."""

_SCORES_FILE = "scores.npz"
_CLASSES = "classes"


@dataclasses.dataclass(frozen=True, slots=True)
class Classification:
    """One model's prediction for one image.

    Attributes:
        predicted: the most probable class; empty if the model could not read the image.
        label_probability: probability of the true class; 0 if the model does not know that class.
        rank: of the true class, 1 being the most probable; the number of classes plus one if the class is unknown.
        novelty: in [0, 1]; 0 if the model could not read the image.
        reason: why the model withholds the label; empty if it gives one or could not read the image.
    """

    predicted: str
    probability: float
    label_probability: float
    rank: int
    novelty: float = dataclasses.field(default=0.0, kw_only=True)
    reason: str = dataclasses.field(default="", kw_only=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction(Classification):
    """The candidate's prediction for one image, with those of the baseline and of the exports.

    Attributes:
        path: relative to the data folder; `sha256` is of the same file.
        slices: the values of all slice features, by their names without `slice/`.
        baseline: the last blessed model's prediction; None if there is no such model to compare with.
        exports: predictions of what the candidate was converted to, by format.
    """

    path: str
    sha256: str
    label: str
    slices: dict[str, str]
    baseline: Classification | None = None
    exports: dict[ExportFormat, Classification] = dataclasses.field(default_factory=dict)

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.predicted == self.label

    def is_in(self, name: str) -> bool:
        """Whether the image belongs to a slice by its name: `label=roses`, `label=roses, brightness=dark`."""
        for feature, value in {"label": self.label, **self.slices}.items():
            part = f"{feature}={value}"  # may contain commas, so the name cannot simply be split
            if name == part or (name.startswith(f"{part}, ") and self.is_in(name[len(part) + 2 :])):
                return True
        return False


@dataclasses.dataclass(frozen=True)
class Scores:
    """The models' probabilities for all classes, binned.

    Attributes:
        classes: the candidate's, in the order of its outputs.
        bins: by model, `score_bins` of all probabilities, int16 [n, k], in the order of `read_predictions`.
    """

    classes: list[str]
    bins: Mapping[str, np.ndarray]


PREDICTIONS_FILE = JsonLines("predictions.jsonl", Prediction)


def read_predictions(folder: str | Path) -> list[Prediction]:
    """All predictions, sorted by path, then by content. Raises what `JsonLines.read` raises."""
    return sorted(PREDICTIONS_FILE.read(folder), key=lambda p: (p.path, p.sha256))


def write_scores(folder: str | Path, classes: Sequence[str], bins: Mapping[str, np.ndarray]) -> None:
    """Writes what `read_scores` reads."""
    content = io.BytesIO()
    np.savez_compressed(content, **{_CLASSES: np.array(classes, str), **bins})
    atomic_io.write_bytes(f"{folder}/{_SCORES_FILE}", content.getvalue())


def read_scores(folder: str | Path) -> Scores:
    """The scores beside the predictions."""
    with atomic_io.open_file(f"{folder}/{_SCORES_FILE}", "rb") as file, np.load(io.BytesIO(file.read())) as arrays:
        return Scores(arrays[_CLASSES].tolist(), {name: arrays[name] for name in arrays.files if name != _CLASSES})
