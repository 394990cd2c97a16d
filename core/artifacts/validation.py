"""`data_gate.json`: what ValidationGate says of data that it let pass."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile

VERDICT = Artifact("ValidationGate", "verdict")


@dataclasses.dataclass(frozen=True)
class DataVerdict:
    """What is worth knowing of the data, in sentences."""

    notes: list[str]


DATA_VERDICT = JsonFile("data_gate.json", DataVerdict)
