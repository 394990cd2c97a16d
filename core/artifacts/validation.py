"""`data_gate.json`: ValidationGate's notes on data that passed."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.verdict import Range

VERDICT = Artifact("ValidationGate", "verdict")


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """How well a column alone predicts a class.

    Attributes:
        label: the class that it separates best from all others.
        balanced_accuracy: of that separation; chance is one half.
    """

    column: str
    label: str
    balanced_accuracy: Range


@dataclasses.dataclass(frozen=True)
class DataVerdict:
    """Sentences about the data, and how well each column alone predicts a class, best first."""

    notes: list[str]
    shortcuts: list[Shortcut]


DATA_VERDICT = JsonFile("data_gate.json", DataVerdict)
