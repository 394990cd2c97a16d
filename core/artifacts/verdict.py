"""`gate.json`: ModelGate's verdict on a model, with everything it measured."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core.artifacts.base import Artifact, JsonFile
from core.artifacts.tflite_files import TFLiteFile

OVERALL = "overall"  # the slice that is the entire test split

BLESSING = Artifact("ModelGate", "blessing")


@dataclasses.dataclass(frozen=True)
class Range:
    """A value with its confidence limits; None if unknown or not finite."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """For a change: whether zero lies outside the limits."""
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
    """How many images of one class were predicted as another, or as itself; only for pairs with images."""

    actual: str
    predicted: str
    examples: int


@dataclasses.dataclass(frozen=True)
class SliceMetrics:
    """What was measured on one slice, such as `label=roses`.

    Attributes:
        metrics: of the candidate, by name.
        baseline: of the last blessed model, by name; None if there is none to compare with.
        change: candidate minus baseline on the same images, by name; None for a metric without an interval.
        classes: all for the entire split, those with images for a slice on which a bound is judged, else none; the same
            goes for `confusions`.
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
    """What the candidate was converted to, and how good that is.

    Attributes:
        metrics: on the entire split, by name.
        change: from the candidate on the same images, by name; None for a metric without an interval.
    """

    export: TFLiteFile
    metrics: dict[str, Range]
    change: dict[str, Range | None]


State = Literal["broken", "doubt", "kept"]


@dataclasses.dataclass(frozen=True)
class JudgedBound:
    """A bound that the gate judged on one slice; `found` is the candidate's value.

    Attributes:
        setting: where it is set, such as `per_slice.accuracy.min`.
        slice: its name, or the format of an export.
        p: the chance that a model which keeps the bound looks this bad, corrected for the number of bounds.
        state: whether the test images show that it is broken or kept, or leave it in doubt.
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
    """One bound that the candidate breaks, or that is in doubt if `on_doubt` is `refuse`.

    Attributes:
        setting: as in `JudgedBound`.
        bound: the limit; for a drop, the value that was still allowed.
        slice: its name, or the format of an export, as `kind` says.
        kind: `min`, `max` or `max_drop`, perhaps with the prefix `per_slice_` or `export_`.
        p: as in `JudgedBound`.
        mistakes: how many images of the slice are wrong.
        images: paths of these, at most fifty, worst first; for a drop, those that used to be right come first.
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
    """An image of `evaluation.regressions` that the candidate gets wrong.

    Attributes:
        predicted: the most probable class; empty if there is none.
        probability: of that class; None if the model was not asked.
        before: what the last blessed model predicts; None if there is none to compare with.
        reason: why it cannot be right, such as a file that cannot be read; empty otherwise.
    """

    path: str
    label: str
    predicted: str = ""
    probability: float | None = None
    before: str | None = None
    reason: str = ""

    @property
    def new(self) -> bool:
        """Whether the last blessed model gets it right."""
        return self.before == self.label


@dataclasses.dataclass(frozen=True)
class Regressions:
    """How the candidate does on the images that must stay right. They are a fixed set: nothing is estimated from them.

    Attributes:
        folder: where they are.
        images: how many there are, including unreadable ones.
        allowed: how many may be wrong.
        wrong: those the candidate gets wrong; the ones that the last blessed model gets right come first.
        message: says that too many are wrong; None otherwise.
    """

    folder: str
    images: int
    allowed: int
    wrong: list[Regression]
    message: str | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the candidate is blessed, and everything it was judged by.

    Attributes:
        confidence: of all intervals, and required to call a bound broken.
        not_compared: a sentence on why there is no baseline; None if there is one.
        judged: every bound on every slice that it applies to.
        notes: sentences about what could not be judged or is in doubt.
        regressions: None if the settings name no images that must stay right.
        abstention: that the model does not show the precision that `abstain` wants; None if it does or need not.
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
    abstention: str | None = None
    exports: list[ExportMetrics] = dataclasses.field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Why it is not blessed, one sentence each."""
        past = self.regressions.message if self.regressions else None
        return [*(failure.message for failure in self.failures), *filter(None, (past, self.abstention))]


VERDICT = JsonFile("gate.json", Verdict)
