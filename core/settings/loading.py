"""Settings: one YAML file per data set, typed, checked as a whole before anything runs.

    settings = load("configs/flowers.yaml", ["training.batch_size=32"])

Every key has a type and a default here. An unknown key is refused with the nearest known one, a wrong type or an
impossible combination with the path of the setting and what would be right; all mistakes of a file are told at once.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any, Literal

import cattrs
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core import rules
from core.errors import InputError
from core.settings import beam
from core.settings.converter import make_converter
from core.settings.data import DataSettings
from core.settings.evaluation import CardSettings, EvaluationSettings, PushSettings
from core.settings.messages import explain, kind
from core.settings.runtime import AirflowSettings, KubeflowSettings, RuntimeSettings
from core.settings.serving import ServingSettings
from core.settings.training import BackboneConfig, FineTuneConfig, HeadConfig, TrainerConfig, TrainingConfig, require
from core.settings.tuner import TunerConfig


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of one pipeline.

    Attributes:
        name: names folders and cluster objects: lower-case letters, digits and dashes.
    """

    name: str
    data: DataSettings
    backbone: BackboneConfig = BackboneConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    head: HeadConfig = HeadConfig()
    training: TrainingConfig = TrainingConfig()
    tuner: TunerConfig | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    serving: ServingSettings = ServingSettings()
    push: PushSettings = PushSettings()
    card: CardSettings = CardSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    airflow: AirflowSettings = AirflowSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()

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
                "tuner.output needs a base that is frozen whole (no fine_tune)",
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
        require(
            self.data.max_file_mb <= self.serving.server.max_message_mb,
            f"serving.server.max_message_mb is {self.serving.server.max_message_mb}, below data.max_file_mb, which is "
            f"{self.data.max_file_mb:g}: a picture of that size could not be sent; raise the one or lower the other",
        )
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
        """The part the Trainer needs."""
        return TrainerConfig(self.backbone, self.fine_tune, self.head, self.training, self.data.limits)

    @property
    def schema_file(self) -> Path:
        """The reviewed schema's path."""
        return Path(self.data.schema or f"schemas/{self.name}.pbtxt")


def load(path: str | Path, overrides: typing.Iterable[str] = ()) -> Settings:
    """Reads, overrides and checks a settings file.

    Args:
        path: a YAML 1.2 file.
        overrides: `path.of.setting=value`, the value in YAML; later ones win.

    Raises:
        InputError: every mistake in the file and the overrides, one a line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the settings {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the settings {path}: not UTF-8 text ({error.reason})") from error
    values = _parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: settings are a mapping of keys to values, found {kind(values)}")
    for override in overrides:
        _apply(values, override)
    try:
        return _CONVERTER.structure(values, Settings)
    except Exception as error:  # cattrs raises groups of whatever the hooks and __post_init__ raised
        lines = list(explain(error, "", Settings))
        raise InputError(f"{path}: " + "\n".join(lines)) from error


def split_overrides(given: typing.Iterable[str]) -> list[str]:
    """`a=1 b=[2, 3]` is two overrides: one begins at every `path=` that follows a blank."""
    return [one for text in given for one in re.split(r"\s+(?=[A-Za-z_][\w.]*=)", text.strip()) if one]


def to_dict(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, every default written out."""
    return _CONVERTER.unstructure(settings)


def from_dict(values: dict[str, Any]) -> Settings:
    """The inverse of `to_dict`. Raises what cattrs raises where the values do not fit."""
    return _CONVERTER.structure(values, Settings)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = (error.problem or "").split("\n")[0]
        raise InputError(f"{where}{at}: not valid YAML: {problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not valid YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}"
        ) from error


def _apply(values: dict[str, Any], override: str) -> None:
    """Sets one `path.of.setting=value`."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"SET: {override!r} is not of the form path.of.setting=value")
    node = values
    for depth, part in enumerate(parts[:-1]):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            here = ".".join(parts[: depth + 1])
            raise InputError(f"SET: {override!r}: {here} is {child!r}, it has no keys of its own")
        node = child
    node[parts[-1]] = _parse_yaml(text, f"SET {key}")


def _structure_span(value: Any, _: type) -> int | str:
    if value == "latest" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError(f"expected a whole number or latest, found {value!r}")


def _converter() -> cattrs.Converter:
    converter = make_converter()
    beam.register(converter)
    converter.register_structure_hook_func(lambda kind: kind == int | Literal["latest"], _structure_span)
    return converter


_CONVERTER = _converter()
