"""`data_gate.json`: what ValidationGate says of data that it let pass."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.verdict import Range

VERDICT = Artifact("ValidationGate", "verdict")


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """What a column alone says of a class.

    Attributes:
        label: the class that it tells best from all others.
        balanced_accuracy: how well; chance is one half.
    """

    column: str
    label: str
    balanced_accuracy: Range


@dataclasses.dataclass(frozen=True)
class DataVerdict:
    """What is worth knowing of the data, in sentences, and how well each column predicts a class, the best first."""

    notes: list[str]
    shortcuts: list[Shortcut]


DATA_VERDICT = JsonFile("data_gate.json", DataVerdict)
