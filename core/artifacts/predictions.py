"""The models' answers for one test image, as `components.predictor` writes them; readers need no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

CANDIDATE, BASELINE = "candidate", "baseline"
"""The models, by TFMA's names; `answers` has features of these names: probabilities, in the order of the candidate's
classes."""

PREDICTIONS_FILE = "predictions.jsonl"
"""A JSON object a line, as `Prediction` has it."""

CLASSES_FILE = "classes.json"
"""A list: the candidate's classes, in the order of its outputs."""

SCORES_FILE = "scores.npz"
"""Arrays by the models' names: `measures.score_bins` of the probabilities of all classes, int16 [n, k], in the order of
`in_order`."""

GALLERY_FILE = "gallery.json"
"""A list, worst first: a `Prediction` and the file names `original`, `seen` and, where there is one, `attribution`."""


class Answer(NamedTuple):
    """One model's answer for one image.

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


class Prediction(NamedTuple):
    """The candidate's answer for one image, and the baseline's for the same.

    Attributes:
        path: relative to the data folder.
        sha256: of the file.
        label: the true class.
        predicted: as in `Answer`, like the two that follow: the candidate's.
        probability: of `predicted`.
        label_probability: of `label`; 0 if the model does not know that class.
        slices: the values of all slice features, by their names without `slice/`.
        rank: of `label`, as in `Answer`.
        baseline: the last blessed model's answer, None where there is none to compare with.
    """

    path: str
    sha256: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    slices: dict[str, str]
    rank: int = 1
    baseline: Answer | None = None

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.predicted == self.label

    @property
    def answer(self) -> Answer:
        """The candidate's."""
        return Answer(self.predicted, self.probability, self.label_probability, self.rank)

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

    def to_json(self) -> str:
        """A line of `PREDICTIONS_FILE`, in ASCII."""
        baseline = self.baseline._asdict() if self.baseline else None
        return json.dumps({**self._asdict(), "baseline": baseline})


def read_predictions(lines: Iterable[str]) -> Iterator[Prediction]:
    """The inverse of `Prediction.to_json`, line by line."""
    return (prediction_of(json.loads(line)) for line in lines)


def in_order(predictions: Iterable[Prediction]) -> list[Prediction]:
    """By path, and where that is the same by content: workers write them in any order."""
    return sorted(predictions, key=lambda p: (p.path, p.sha256))


def prediction_of(values: Mapping[str, Any]) -> Prediction:
    """A prediction from its plain values."""
    baseline = values.get("baseline")
    return Prediction(**{**values, "baseline": Answer(**baseline) if baseline else None})
