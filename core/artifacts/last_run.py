"""`last_run.json`: how the last run of a pipeline ended; beside it, the settings it ran with."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from core.artifacts.base import JsonFile
from core.artifacts.ingest_record import Span
from core.artifacts.pushed_model import Decision
from core.artifacts.training_summary import Abstention, Calibration, WarmStart
from core.artifacts.verdict import Range
from core.errors import Blame
from core.settings.export import ExportFormat

PUSHED, INTERNAL_ERROR, BAD_INPUT, REFUSED, MACHINE_FAILED = 0, 1, 2, 3, 4
"""Exit codes. A refused model was judged and not pushed. `PUSHED` is also the code of a run that was told to stop
before Pusher, and of one whose model waits for approval."""

EXIT_CODES: dict[Blame, int] = {"code": INTERNAL_ERROR, "input": BAD_INPUT, "machine": MACHINE_FAILED}

Status = Literal["pushed", "waiting", "refused", "failed", "finished"]
"""`waiting`: the model is blessed, but nobody has approved it yet; `finished`: all requested stages succeeded, and
Pusher was not among them."""


@dataclasses.dataclass(frozen=True)
class Images:
    """How many images went where: found = ignored + rejected + left_out + read, and read = train + eval + test.

    Attributes:
        duplicates: how many show the same thing as another image.
        ignored_by: how many were ignored, by reason.
        linked_to: folders outside the data folder that links lead to.
        computed: how many images this run computed features for; None if the run has no features.
        reused: how many images have features from earlier runs.
    """

    found: int
    ignored: int
    rejected: int
    left_out: int
    read: int
    train: int
    eval: int
    test: int
    duplicates: int
    computed: int | None = None
    reused: int | None = None
    ignored_by: dict[str, int] = dataclasses.field(default_factory=dict)
    linked_to: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The pre-trained network; `cut` is None where no features were cached."""

    weights: str
    sha256: str
    cut: str | None = None


@dataclasses.dataclass(frozen=True)
class Tuning:
    """A search for settings: how many trials, and the best values by the settings' paths."""

    trials: int
    best: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Labels:
    """How many labels seem wrong; see `core.artifacts.suspects.LabelQuality`.

    Attributes:
        images: how many were judged.
        errors: labels that seem wrong; `low` and `high` bound their fraction.
        suspects: path of the list to review.
    """

    images: int
    errors: int
    low: float | None
    high: float | None
    suspects: str


@dataclasses.dataclass(frozen=True)
class Regressions:
    """How many images `evaluation.regressions` has, how many are wrong, and how many may be."""

    images: int
    wrong: int
    allowed: int


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of the whole test split.

    Attributes:
        overall: its value; None where it is not finite.
        baseline: of the last blessed model on the same images.
        change: candidate minus baseline.
    """

    overall: float | None
    low: float | None
    high: float | None
    baseline: float | None
    change: Range | None


@dataclasses.dataclass(frozen=True)
class Export:
    """A file that the model was converted to, and how good it is; see `core.artifacts.tflite_files.TFLiteFile`.

    Attributes:
        file: relative to the model's folder.
        accuracy: on the test split.
        change: `accuracy` minus the SavedModel's.
    """

    file: str
    bytes: int
    latency_ms: float
    accuracy: Range
    change: Range | None


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a run failed or was refused: the message and, if known, the stage.

    The other fields describe a broken bound, as in `core.artifacts.verdict.Failure`.
    """

    message: str
    stage: str | None = None
    setting: str | None = None
    metric: str | None = None
    slice: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    kind: str | None = None
    examples: int | None = None
    p: float | None = None
    mistakes: int | None = None
    images: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A node of the pipeline that ran; `cpu_seconds` is the sum over all cores, None if it was not measured."""

    id: str
    seconds: float
    cpu_seconds: float | None
    cached: bool


@dataclasses.dataclass
class Outcome:
    """How a run ended; docs/operating.md describes every key. What the run did not get to is null or empty."""

    status: Status
    exit_code: int
    pipeline_root: str
    run_id: str | None = None
    inputs: str | None = None
    pushed_model: str | None = None
    registered_model: str | None = None
    waiting: str | None = None
    approval: Decision | None = None
    model: str | None = None
    report: str | None = None
    seconds: float = 0.0
    peak_rss_mb: int = 0
    freed_mb: float = 0.0
    images: Images | None = None
    spans: list[Span] = dataclasses.field(default_factory=list)
    labels: Labels | None = None
    backbone: Backbone | None = None
    warm_start: WarmStart | None = None
    tuning: Tuning | None = None
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    metrics: dict[str, Metric] = dataclasses.field(default_factory=dict)
    regressions: Regressions | None = None
    exports: dict[ExportFormat, Export] = dataclasses.field(default_factory=dict)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    stages: list[Stage] = dataclasses.field(default_factory=list)
    log: str | None = None


LAST_RUN = JsonFile("last_run.json", Outcome)  # in the run folder


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Every setting of the last run, as plain values."""

    settings: dict[str, Any]


SETTINGS = JsonFile("last_run_settings.json", RunSettings)  # beside `LAST_RUN`
