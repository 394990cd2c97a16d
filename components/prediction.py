"""The model's answer for one test image, as `components.test_predictions` writes it; readers need no TensorFlow."""

from __future__ import annotations

from typing import NamedTuple

PREDICTIONS_FILE = "predictions.jsonl"
"""A JSON object a line, as `Prediction` has it."""

GALLERY_FILE = "gallery.json"
"""A list, worst first: a `Prediction` and the file names `original`, `seen` and, where there is one, `attribution`."""


class Prediction(NamedTuple):
    """The model's answer for one image.

    Attributes:
        path: relative to the data folder.
        sha256: of the file.
        label: the true class.
        predicted: the most probable class; empty if the model could not read the image.
        probability: of `predicted`.
        label_probability: of `label`; 0 if the model does not know that class.
        slices: the values of all slice features, by their names without `slice/`.
    """

    path: str
    sha256: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    slices: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.predicted == self.label

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
