"""Settings: one YAML file per data set, typed, checked as a whole before anything runs.

    settings = load("configs/flowers.yaml", ["training.batch_size=32"])

Every key has a type and a default here. An unknown key is refused with the nearest known one, a wrong type or an
impossible combination with the path of the setting and what would be right; all mistakes of a file are told at once.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import math
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from components.ingestion import near_duplicates, spans
from components.serving.server_limits import ServerLimits
from pipeline import beam_engines, evaluation
from pipeline.beam_engines import BeamEngine, LocalEngine
from trainer import rules
from trainer.config import (
    BackboneConfig,
    FineTuneConfig,
    HeadConfig,
    TrainerConfig,
    TrainingConfig,
    TunerConfig,
    make_converter,
)
from trainer.errors import InputError

DIGITS = "sklearn-digits"
"""The value of `data.images` that stands for scikit-learn's handwritten digits, which need no network."""

TFDS = "tfds:"
"""What a data set of TensorFlow Datasets begins with in `data.images`: `tfds:tf_flowers`."""

SPLITS = ("train", "eval", "test")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_range(least: float | None, most: float | None) -> None:
    for name, value in (("min", least), ("max", most)):
        _require(value is None or math.isfinite(value), f"{name} is {value}; it must be a finite number")
    _require(least is None or most is None or least <= most, f"min is {least}, above max, which is {most}")


def _default_splits() -> dict[str, int]:
    return {"train": 8, "eval": 1, "test": 1}


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Which pictures count as the same: `distance` is in how many of 64 bits their perceptual hashes may differ."""

    distance: int = 6

    def __post_init__(self) -> None:
        most = near_duplicates.MAX_DISTANCE
        _require(0 <= self.distance <= most, f"distance is {self.distance}; it is a number of bits, from 0 to {most}")


@dataclasses.dataclass(frozen=True)
class DataBounds:
    """What the data must keep to before anything is trained on them; null demands nothing. docs/data.md explains each.

    Attributes:
        min_class_images: that every class must have in train.
        min_class_share: of train that every class must have.
        label_drift: how far any class's share may have moved since the last blessed model's data.
        picture_drift: likewise the share of any kind of picture: dark ones, small ones, those of a camera.
        split_skew: likewise between train and another split.
        class_changes: how many classes may have appeared or vanished since then.
        leaked: the part of eval and test that may be in another split too, where the layout gives the splits.
    """

    min_class_images: int = 1
    min_class_share: float | None = None
    label_drift: float | None = 0.3
    picture_drift: float | None = 0.3
    split_skew: float | None = 0.3
    class_changes: int | None = None
    leaked: float = 0.01

    def __post_init__(self) -> None:
        for name in ("min_class_share", "label_drift", "picture_drift", "split_skew", "leaked"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"{name} is {value}; it is a part, from 0 to 1")
        _require(self.min_class_images >= 1, "min_class_images must be at least 1")
        _require(self.class_changes is None or self.class_changes >= 0, "class_changes must not be negative")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where the images come from and how they are split.

    Attributes:
        images: a folder, `gs://` or `s3://` too, or a pattern of such folders, as `photos/day-{SPAN}`; `tfds:<name>`;
            or `sklearn-digits`. docs/data.md shows how a folder may be laid out.
        layout: how the folder is laid out; `auto` finds out.
        span: the last span to read, by its number; `latest` is the latest there is.
        window: how many spans to read: that one and those before it.
        metadata: name of a CSV or `.jsonl` file in the folder: a column `file_name`, and more columns to slice by.
        group_by: a column of the metadata whose equal values must share a split, such as a patient's number.
        splits: hash buckets of train, eval and test; a picture's bucket depends on its bytes alone. Splits that the
            layout gives are kept instead.
        near_duplicates: which pictures share a split because they show the same; null: only identical ones.
        max_rejected: the run stops if a larger part of the files than this cannot be used.
        bounds: what the data must keep to before anything is trained on them.
        schema: the reviewed schema of the examples; `schemas/<name>.pbtxt` where it is not given.
    """

    images: str
    layout: Literal["auto", "class_folders", "split_folders", "metadata", "tfrecords"] = "auto"
    span: int | Literal["latest"] = "latest"
    window: int = 1
    metadata: str | None = None
    group_by: str | None = None
    splits: dict[str, int] = dataclasses.field(default_factory=_default_splits)
    near_duplicates: NearDuplicates | None = NearDuplicates()
    max_rejected: float = 0.01
    bounds: DataBounds = DataBounds()
    schema: str | None = None

    def __post_init__(self) -> None:
        _require(
            set(self.splits) == set(SPLITS) and all(n > 0 for n in self.splits.values()),
            f"splits must give a positive number for each of {', '.join(SPLITS)}",
        )
        _require(
            self.group_by is None or self.metadata is not None, "group_by names a column, but metadata is not given"
        )
        _require(0 <= self.max_rejected <= 1, f"max_rejected is {self.max_rejected}; it is a part, from 0 to 1")
        _, pattern = spans.split_pattern(self.images)
        _require(self.window >= 1, "window must be at least 1")
        _require(
            bool(pattern) or (self.span == "latest" and self.window == 1),
            f"span and window choose among the folders of a pattern such as p/day-{{SPAN}}; images is {self.images!r}",
        )


@dataclasses.dataclass(frozen=True)
class MetricBounds:
    """Bounds of one metric on the whole test split; `max_drop` is against the last blessed model on the same images."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.min, self.max)
        _require(self.max_drop is None or self.max_drop >= 0, f"max_drop is {self.max_drop}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class SliceBounds(MetricBounds):
    """Bounds of one metric on every slice that has at least `min_examples` test images."""

    min_examples: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.min_examples >= 1, "min_examples must be at least 1")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, on which slices, and what a model must reach to be pushed; docs/gate.md says how it is judged.

    Attributes:
        slices: `label`, or another feature `slice/…` by its name; several joined by `*` are crossed.
        thresholds: bounds on the whole test split, by metric.
        per_slice: bounds on every slice, by metric.
        confidence: a bound is broken if the test images say so with this confidence, all bounds taken together.
        on_doubt: what happens to a model of which they can neither say that it keeps a bound nor that it breaks it.
    """

    slices: tuple[str, ...] = ("label", "resolution", "brightness")
    thresholds: dict[str, MetricBounds] = dataclasses.field(default_factory=dict)
    per_slice: dict[str, SliceBounds] = dataclasses.field(default_factory=dict)
    confidence: float = 0.95
    on_doubt: Literal["pass", "refuse"] = "pass"

    def __post_init__(self) -> None:
        evaluation.feature_keys(self.slices)
        _require(0.5 <= self.confidence < 1, f"confidence is {self.confidence}; it is a part, from 0.5 to below 1")
        for group in ("thresholds", "per_slice"):
            for metric in getattr(self, group):
                near = difflib.get_close_matches(metric, evaluation.METRICS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(evaluation.METRICS)}"
                _require(metric in evaluation.METRICS, f"{group}.{metric}: there is no such metric; {hint}")
                bounds = getattr(self, group)[metric]
                shares = [bounds.min, bounds.max] if metric != "cross_entropy" else []
                _require(
                    all(b is None or 0 <= b <= 1 for b in shares), f"{group}.{metric}: bounds are parts, from 0 to 1"
                )


@dataclasses.dataclass(frozen=True)
class InfraValidatorSettings:
    """How TFX's InfraValidator starts TensorFlow Serving; it needs Docker or Kubernetes where the pipeline runs.

    Attributes:
        image: of TensorFlow Serving.
        tag: its version; that of TensorFlow which exported the model, or newer.
        platform: what starts the container.
        service_account: of the pod, on Kubernetes.
        tries: how often a server that does not load the model is started again.
        requests: images of the test split that it is asked for.
    """

    image: str = "tensorflow/serving"
    tag: str = "2.15.1"
    platform: Literal["docker", "kubernetes"] = "docker"
    service_account: str | None = None
    tries: int = 3
    requests: int = 5

    def __post_init__(self) -> None:
        _require(self.tries >= 1 and self.requests >= 1, "tries and requests must be at least 1")


@dataclasses.dataclass(frozen=True)
class ServingSettings:
    """What the serving check demands of the exported model, null demanding nothing; and the bounds of `serve`.

    Attributes:
        max_median_latency_ms: of requests with one image, in milliseconds.
        max_latency_ms: of 99 % of these requests.
        max_load_seconds: from the start of loading to the first request.
        max_memory_mb: of the serving process after good requests, TensorFlow included.
        timeout_seconds: after this long the serving process counts as hung.
        server: what `serve` may be asked for.
        validator: `serving_check`, which needs nothing else, or `infra_validator`, TensorFlow Serving in a container,
            which knows neither latency nor memory.
        infra_validator: how that one starts the container.
    """

    max_median_latency_ms: float | None = None
    max_latency_ms: float | None = None
    max_load_seconds: float | None = None
    max_memory_mb: float | None = None
    timeout_seconds: int = 300
    server: ServerLimits = ServerLimits()
    validator: Literal["serving_check", "infra_validator"] = "serving_check"
    infra_validator: InfraValidatorSettings = InfraValidatorSettings()

    def __post_init__(self) -> None:
        _require(self.timeout_seconds > 0, "timeout_seconds must be positive")
        _require(
            self.validator == "serving_check"
            or self.max_median_latency_ms is self.max_latency_ms is self.max_memory_mb is None,
            "latency and memory are measured by validator: serving_check only",
        )


@dataclasses.dataclass(frozen=True)
class PushSettings:
    """Where blessed models go, and how many versions stay there."""

    directory: str = "serving/"
    keep: int = 5

    def __post_init__(self) -> None:
        _require(self.keep >= 1, "keep must be at least 1")


@dataclasses.dataclass(frozen=True)
class CardSettings:
    """What only people can say of the model; it goes onto the model card of every version pushed from then on.

    Attributes:
        intended_use: what the model is for, in a paragraph; a plain statement of what it does where not given.
        limits: where it must not be relied on, a sentence each; measured ones are added.
        owner: who answers for it, and how to reach them.
        licence: of the model.
    """

    intended_use: str | None = None
    limits: tuple[str, ...] = ()
    owner: str | None = None
    licence: str | None = None


@dataclasses.dataclass(frozen=True)
class RuntimeSettings:
    """How the pipeline is executed; none of it changes what the model is.

    Attributes:
        beam: where Apache Beam's steps run: `local`, `local-parallel`, `flink`, `spark` or `dataflow`, or a mapping of
            `engine` and its settings (pipeline/beam_engines.py), or a list of Beam's pipeline options, taken as it is.
        bfloat16: compute the frozen prefix in bfloat16: `auto` where the CPU has it and the result agrees.
        feature_batch_size: images that go through the frozen prefix at a time; bounds the memory it needs.
        cache: reuse the outputs of stages whose inputs, settings and code have not changed.
    """

    beam: BeamEngine = LocalEngine()
    bfloat16: Literal["auto", "on", "off"] = "auto"
    feature_batch_size: int = 32
    cache: bool = True

    def __post_init__(self) -> None:
        _require(self.feature_batch_size > 0, "feature_batch_size must be positive")


@dataclasses.dataclass(frozen=True)
class ResourceSettings:
    """What one stage's container asks of a cluster; null takes the default of `kubeflow_runner.RESOURCES`.

    Attributes:
        cpu: cores.
        memory_gb: GiB.
        gpus: of the kind `kubeflow.accelerator`.
    """

    cpu: float | None = None
    memory_gb: float | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory_gb"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"{name} is {value}; it must be positive")
        _require(self.gpus is None or self.gpus >= 0, f"gpus is {self.gpus}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class VolumeSettings:
    """A persistent volume claim of the cluster, mounted in every container: storage without a cloud's buckets."""

    claim: str
    path: str = "/mnt/pipeline"

    def __post_init__(self) -> None:
        _require(bool(self.claim), "claim must name a persistent volume claim")
        _require(self.path.startswith("/"), f"path is {self.path!r}; it must be absolute")


@dataclasses.dataclass(frozen=True)
class KubeflowSettings:
    """What `make kubeflow` compiles into a spec, for containers that see nothing of this machine.

    Attributes:
        image: the container image with this project (`Dockerfile`), as the cluster pulls it.
        pipeline_root: folder of all artifacts, such as `gs://bucket/pipelines`; without it, a run asks for it.
        volume: a volume to mount; only on a cluster of one's own.
        retries: how often a stage that failed is started again.
        accelerator: the kind of GPU, by Vertex's name; on a cluster of one's own any NVIDIA GPU will do.
        resources: by stage, such as `{Trainer: {gpus: 1}}`.
        environment: variables by stage, such as `{Trainer: {TF_CONFIG: "…"}}`.
    """

    image: str = "tfx-image-classifier:latest"
    pipeline_root: str | None = None
    volume: VolumeSettings | None = None
    retries: int = 2
    accelerator: str = "NVIDIA_TESLA_T4"
    resources: dict[str, ResourceSettings] = dataclasses.field(default_factory=dict)
    environment: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.image.strip()), "image must name a container image")
        _require(self.retries >= 0, f"retries is {self.retries}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class AirflowSettings:
    """What `make airflow` writes into the DAG beside the pipeline.

    Attributes:
        schedule: a cron expression or a preset such as `@daily`; null runs only what is triggered.
        start_date: the first day of the schedule, ISO 8601; missed runs before today are not caught up.
        retries: how often a task that failed is started again; bad input is not, since it would fail again.
        retry_delay_minutes: before that.
        max_active_tasks: components that run at a time. More than one needs a machine with that much memory: each is a
            process with TensorFlow.
        on_failure: dotted path of a function that is given Airflow's context when a run has failed, or was refused.
        owner: as Airflow shows it.
        tags: by which Airflow finds the DAG.
    """

    schedule: str | None = None
    start_date: str = "2025-01-01"
    retries: int = 1
    retry_delay_minutes: float = 5.0
    max_active_tasks: int = 1
    on_failure: str | None = None
    owner: str = "airflow"
    tags: tuple[str, ...] = ("tfx",)

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.start_date)
        except ValueError:
            raise ValueError(f"start_date is {self.start_date!r}; it is a day such as '2025-01-01'") from None
        _require(self.retries >= 0, f"retries is {self.retries}; it must not be negative")
        _require(
            self.retry_delay_minutes >= 0, f"retry_delay_minutes is {self.retry_delay_minutes}; it must not be negative"
        )
        _require(self.max_active_tasks >= 1, "max_active_tasks must be at least 1")
        _require(
            self.on_failure is None or re.fullmatch(r"\w+(\.\w+)+", self.on_failure) is not None,
            f"on_failure is {self.on_failure!r}; it is the dotted path of a function, such as company.alerts.page",
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of one pipeline."""

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
            _require(
                cut is not None,
                "tuner: a trial needs cached features, but fine_tune trains from the first block on, or "
                "training.augmentation has no views",
            )
            _require(
                not self.tuner.output or cut == "pooled",
                "tuner.output needs a base that is frozen whole (no fine_tune)",
            )
            _require(
                self.training.distribution != "parameter_server",
                "tuner: trials are trained in one process; set training.distribution to none or mirrored",
            )
        _require(
            self.training.head_steps == 0 or cut != "pooled",
            "training.head_steps: without fine_tune nothing but the head ever trains; set fine_tune, or leave it out",
        )
        _require(
            re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name) is not None,
            f"name is {self.name!r}; use lower-case letters, digits and dashes (it names folders and cluster objects)",
        )

    @property
    def trainer(self) -> TrainerConfig:
        """The part the Trainer needs."""
        return TrainerConfig(self.backbone, self.fine_tune, self.head, self.training)

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
        raise InputError(f"{path}: settings are a mapping of keys to values, found {_kind(values)}")
    for override in overrides:
        _apply(values, override)
    try:
        return _CONVERTER.structure(values, Settings)
    except Exception as error:  # cattrs raises groups of whatever the hooks and __post_init__ raised
        lines = list(_explain(error, "", Settings))
        raise InputError(f"{path}: " + "\n".join(lines)) from error


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


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _explain(error: BaseException, path: str, cls: Any) -> typing.Iterator[str]:
    """A line for every mistake under `error`, with the path of the setting, in the user's words."""
    if isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(map(str, error.extra_fields)):
            known = sorted(_keys(error.cl))
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {_join(path, near[0])}?" if near else f"known here: {', '.join(known)}"
            yield f"{_join(path, key)}: there is no such setting; {hint}"
    elif isinstance(error, ClassValidationError):
        with_notes, without = error.group_exceptions()
        for inner, note in with_notes:
            missing = isinstance(inner, KeyError) and inner.args[0] == note.name
            yield from _explain(inner, path if missing else _join(path, _yaml_name(note.name)), note.type)
        for inner in without:
            yield from _explain(inner, path, error.cl)
    elif isinstance(error, IterableValidationError):
        indexed, without = error.group_exceptions()
        for inner, item in indexed:
            index = item.index
            at = f"{path}[{index}]" if isinstance(index, int) else _join(path, str(index))
            yield from _explain(inner, at, item.type)
        for inner in without:
            yield from _explain(inner, path, cls)
    elif isinstance(error, KeyError):
        yield f"{_join(path, _yaml_name(str(error.args[0])))}: missing; this setting has no default"
    elif isinstance(error, TypeError) and str(error).startswith("expected "):
        yield f"{path}: {error}"
    elif isinstance(error, TypeError):
        yield f"{path or 'settings'}: expected {_describe(cls)}"
    else:
        text = str(error)
        choices = _choices(cls)
        if choices and "literal" in text.lower():
            yield f"{path}: expected one of {', '.join(map(str, choices))}, found {text.split(' not in ')[0]!r}"
        else:
            yield f"{path or 'settings'}: {text}"


def _choices(cls: Any) -> list[Any]:
    """The values of a Literal, or of the Literals in a Union."""
    if typing.get_origin(cls) is Literal:
        return list(typing.get_args(cls))
    if typing.get_origin(cls) in (typing.Union, types.UnionType):
        return [choice for arg in typing.get_args(cls) for choice in _choices(arg)]
    return []


def _keys(cls: Any) -> list[str]:
    return [_yaml_name(f.name) for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def _yaml_name(field: str) -> str:
    return "from" if field == "from_layer" else field


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _describe(cls: Any) -> str:
    """The type of a setting in words."""
    origin, args = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _describe(a) for a in args)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (tuple, list):
        return f"a list of {_describe(args[0])}"
    if origin is dict or dataclasses.is_dataclass(cls):
        return f"keys and values ({', '.join(_keys(cls))})" if _keys(cls) else "keys and values"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(cls, str(cls))


def _structure_span(value: Any, _: type) -> int | str:
    if value == "latest" or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError(f"expected a whole number or latest, found {value!r}")


def _converter() -> cattrs.Converter:
    converter = make_converter()
    beam_engines.register(converter)
    converter.register_structure_hook_func(lambda kind: kind == int | Literal["latest"], _structure_span)
    return converter


_CONVERTER = _converter()
