"""All settings of one pipeline, and what must hold between their sections."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from core import rules
from core.checkout import CHECKOUT
from core.metrics import COVERED
from core.settings.abstain import AbstainConfig
from core.settings.backbone import BackboneConfig
from core.settings.checks import require
from core.settings.data import DataSettings
from core.settings.evaluation import EvaluationSettings
from core.settings.export import ExportFormat
from core.settings.monitoring import MonitoringSettings
from core.settings.publish import MlflowSettings
from core.settings.push import CardSettings, PushSettings
from core.settings.runtime import AirflowSettings, KubeflowSettings, RuntimeSettings
from core.settings.serving import ServingSettings
from core.settings.training import Calibration, FineTuneConfig, HeadConfig, TrainerConfig, TrainingConfig
from core.settings.tuner import TunerConfig


class Settings(msgspec.Struct, frozen=True, dict=True):
    """All settings of one pipeline.

    Attributes:
        name: used in names of folders and cluster objects: lower-case letters, digits and dashes.
        calibration: `temperature` calibrates the model's probabilities with one number fitted on the eval split (Guo et
            al. 2017); the order of the classes never changes.
        publish: `mlflow` also makes every pushed model an MLflow model, in the artifact of MlflowPublisher.
        notify: a shell command that every run starts when it ends, with the outcome as JSON on standard input; the
            command cannot change the outcome. Write secrets as shell variables: `$SLACK_WEBHOOK`.
        abstain: when the model gives an image no label; null: it always gives one.
        export: formats for phones and boards that the model is also converted to; all are judged and pushed with it
            (docs/edge.md).
    """

    name: str
    data: DataSettings
    backbone: BackboneConfig = BackboneConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    head: HeadConfig = HeadConfig()
    training: TrainingConfig = TrainingConfig()
    calibration: Calibration = "temperature"
    abstain: AbstainConfig | None = None
    tuner: TunerConfig | None = None
    export: tuple[ExportFormat, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    serving: ServingSettings = ServingSettings()
    push: PushSettings = PushSettings()
    publish: Literal["mlflow"] | None = None
    mlflow: MlflowSettings = MlflowSettings()
    card: CardSettings = CardSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    notify: str | None = None
    runtime: RuntimeSettings = RuntimeSettings()
    airflow: AirflowSettings = AirflowSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
    given: ClassVar[frozenset[str]] = frozenset()
    """Paths of the settings that the user gave in a loaded file; not itself a setting, and not compared."""

    def __post_init__(self) -> None:
        cut = rules.features_cut(self.trainer)
        if self.tuner:
            require(
                cut is not None,
                "tuner: a trial needs cached features, but fine_tune trains from the first block on, or "
                "training.augmentation has no views",
            )
            require(
                not self.tuner.output or cut == "pooled",
                "tuner.output needs a base that is entirely frozen (no fine_tune)",
            )
            require(
                self.training.distribution != "parameter_server",
                "tuner: trials are trained in one process; set training.distribution to none or mirrored",
            )
        for name, first in (
            ("head_steps", self.training.head_steps),
            ("learning_rate.warmup_steps", self.training.learning_rate.warmup_steps),
        ):
            require(
                first < self.training.steps,
                f"training.{name} is {first}, and training ends after {self.training.steps} steps (training.steps)",
            )
        bounded = {*self.evaluation.thresholds, *self.evaluation.per_slice} & {*COVERED}
        require(
            self.abstain is not None or not bounded,
            f"evaluation bounds {' and '.join(sorted(bounded))}, but without abstain the model labels every picture: "
            "set it, such as abstain: {precision: 0.95}",
        )
        require(
            self.data.max_file_mb <= self.serving.server.max_message_mb,
            f"serving.server.max_message_mb is {self.serving.server.max_message_mb}, below data.max_file_mb, which is "
            f"{self.data.max_file_mb:g}: an image of that size could not be sent; raise the one or lower the other",
        )
        require(
            4 * self.data.max_megapixels <= self.serving.server.max_megapixels,
            f"serving.server.max_megapixels is {self.serving.server.max_megapixels}, less than four times "
            f"data.max_megapixels, which is {self.data.max_megapixels:g}: large images could not be sent together; "
            "raise the one or lower the other",
        )
        require(len(set(self.export)) == len(self.export), "export names a format twice")
        for name in self.evaluation.export:
            require(name in self.export, f"evaluation.export.{name}: export does not name {name}; add it there")
        require(
            self.training.head_steps == 0 or cut != "pooled",
            "training.head_steps: without fine_tune nothing but the head ever trains; set fine_tune, or leave it out",
        )
        require(
            re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name) is not None,
            f"name is {self.name!r}; use lower-case letters, digits and dashes (it names folders and cluster objects)",
        )

    @property
    def trainer(self) -> TrainerConfig:
        """What the Trainer needs, which does not include the required checksum of the weights."""
        return TrainerConfig(
            dataclasses.replace(self.backbone, sha256=None),
            self.fine_tune,
            self.head,
            self.training,
            self.calibration,
            self.abstain,
            self.data.limits,
        )

    @property
    def schema_file(self) -> Path:
        """Path of the reviewed schema."""
        return Path(self.data.schema or CHECKOUT / "schemas" / f"{self.name}.pbtxt")
