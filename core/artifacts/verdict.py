"""`gate.json`: ModelGate's verdict on a model, with all that it measured."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.tflite_files import TFLiteFile

OVERALL = "overall"  # the slice that is the entire test split

BLESSING = Artifact("ModelGate", "blessing")


@dataclasses.dataclass(frozen=True)
class Range:
    """A value with its confidence limits; None where it is not known, or not finite."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Of a change: whether zero lies outside the limits."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """One class against all others; its name is `class_name`, since `class` is a keyword."""

    class_name: str
    examples: int
    precision: Range
    recall: Range
    f1: Range
    auc: Range


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How many images of one class were predicted as another, or as itself; pairs without images are left out."""

    actual: str
    predicted: str
    examples: int


@dataclasses.dataclass(frozen=True)
class SliceMetrics:
    """What was measured on one slice, such as `label=roses`.

    Attributes:
        metrics: of the candidate, by name.
        baseline: of the last blessed model, by name; None if there is none to compare with.
        change: candidate minus baseline on the same images, by name; of a metric without an interval None.
        classes: of the entire split all, of a slice on which a bound is judged those that it has; else none, likewise
            `confusions`.
    """

    slice: str
    examples: int
    metrics: dict[str, Range]
    baseline: dict[str, Range] | None
    change: dict[str, Range | None] | None
    classes: list[ClassMetrics]
    confusions: list[Confusion]


@dataclasses.dataclass(frozen=True)
class ExportMetrics:
    """What the candidate was converted to, and what was measured of it.

    Attributes:
        metrics: on the entire split, by name.
        change: from the candidate on the same images, by name; None where the metric has no interval.
    """

    export: TFLiteFile
    metrics: dict[str, Range]
    change: dict[str, Range | None]


State = Literal["broken", "doubt", "kept"]


@dataclasses.dataclass(frozen=True)
class JudgedBound:
    """A bound that the gate judged on one slice; `found` is the candidate's value.

    Attributes:
        setting: what demands it, such as `per_slice.accuracy.min`.
        slice: or the format of an export.
        p: the chance that a model which keeps the bound looks this bad, corrected for the number of bounds.
        state: whether the test images say that it is broken or kept, or leave it in doubt.
    """

    setting: str
    metric: str
    slice: str
    bound: float
    examples: int
    found: Range
    p: float
    state: State


@dataclasses.dataclass(frozen=True)
class Failure:
    """One bound that the candidate breaks, or of which it is in doubt where `on_doubt` is `refuse`.

    Attributes:
        setting: as in `JudgedBound`.
        bound: that the value breaks; for a drop the value that was still allowed.
        slice: or the format of an export, whose `kind` says so.
        kind: `min`, `max`, `max_drop`, or `per_slice_` or `export_` and one of them.
        p: as in `JudgedBound`.
        mistakes: how many images of the slice are wrong.
        images: paths of these, at most fifty: the worst first; for a drop, first those that were right before.
    """

    setting: str
    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    kind: str
    examples: int
    p: float
    mistakes: int
    images: list[str]
    message: str


@dataclasses.dataclass(frozen=True)
class Regression:
    """An image of `evaluation.regressions` that is not right.

    Attributes:
        predicted: the most probable class; empty if there is none.
        probability: its own; None where the model was not asked.
        before: what the last blessed model predicts; None if there is none to compare with.
        reason: why it cannot be right, in words, such as a file that cannot be read; empty otherwise.
    """

    path: str
    label: str
    predicted: str = ""
    probability: float | None = None
    before: str | None = None
    reason: str = ""

    @property
    def new(self) -> bool:
        """Whether the last blessed model has it right."""
        return self.before == self.label


@dataclasses.dataclass(frozen=True)
class Regressions:
    """How the candidate does on the images that must stay right. They are a fixed set: nothing is estimated from them.

    Attributes:
        folder: that they are in.
        images: how many there are, with those that cannot be read.
        allowed: how many may be wrong.
        wrong: those that are, the ones that the last blessed model has right first.
        message: that too many are; None otherwise.
    """

    folder: str
    images: int
    allowed: int
    wrong: list[Regression]
    message: str | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the candidate is blessed, and all it was judged by.

    Attributes:
        confidence: of all intervals, and with which a bound must be broken.
        not_compared: why there is no baseline, in a sentence; None if there is one.
        judged: every bound on every slice that it applies to.
        notes: sentences on what could not be judged, or is in doubt.
        regressions: None where no images are named that must stay right.
        exports: what the candidate was converted to, in the order of the formats.
    """

    blessed: bool
    confidence: float
    on_doubt: Literal["pass", "refuse"]
    not_compared: str | None
    overall: SliceMetrics
    slices: list[SliceMetrics]
    judged: list[JudgedBound]
    failures: list[Failure]
    notes: list[str]
    regressions: Regressions | None = None
    exports: list[ExportMetrics] = dataclasses.field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Why it is not blessed: a sentence each."""
        past = self.regressions.message if self.regressions else None
        return [*(failure.message for failure in self.failures), *([past] if past else [])]


VERDICT = JsonFile("gate.json", Verdict)
