"""Finds settings that a user gave but that have no effect given the others; what cannot work is refused instead."""

from __future__ import annotations

from collections.abc import Callable

from core import rules
from core.settings.beam import PortableEngine
from core.settings.data import DIGITS
from core.settings.settings import Settings

_RULES: tuple[tuple[str, Callable[[Settings], object], str], ...] = (
    ("head.dropout", lambda s: not s.head.hidden_units and not s.tuner, "head.hidden_units is []"),
    ("head.hidden_units head.dropout head.l2", lambda s: s.tuner, "the search takes the values that tuner lists"),
    ("backbone.output", lambda s: s.tuner and s.tuner.output, "the search takes the blocks of tuner.output"),
    ("tuner.dropout", lambda s: s.tuner and not any(s.tuner.hidden_units), "tuner.hidden_units tries no hidden layer"),
    (
        "training.learning_rate.boundaries",
        lambda s: not s.tuner and min(s.training.learning_rate.boundaries, default=0) >= s.training.steps,
        "training ends before the first boundary (training.steps)",
    ),
    (
        "runtime.feature_batch_size runtime.bfloat16",
        lambda s: rules.features_cut(s.trainer) is None,
        "training reads images, since no prefix of the network is frozen or every step varies its images anew",
    ),
    (
        "data.bounds.leaked",
        lambda s: s.data.images == DIGITS,
        "the layout gives no splits, and the ones made here share no image",
    ),
    (
        "evaluation.on_doubt",
        lambda s: not (s.evaluation.thresholds or s.evaluation.per_slice or s.export),
        "evaluation.thresholds and evaluation.per_slice demand nothing",
    ),
    (
        "evaluation.max_regressions",
        lambda s: s.evaluation.regressions is None,
        "evaluation.regressions names no folder",
    ),
    (
        "serving.infra_validator",
        lambda s: s.serving.validator == "serving_check",
        "serving.validator is serving_check",
    ),
    (
        "runtime.beam.flink_master runtime.beam.spark_master_url",
        lambda s: isinstance(s.runtime.beam, PortableEngine) and s.runtime.beam.job_endpoint,
        "the job server at runtime.beam.job_endpoint knows its cluster",
    ),
    ("airflow.retry_delay_minutes", lambda s: s.airflow.retries == 0, "airflow.retries is 0"),
    (
        "kubeflow.accelerator",
        lambda s: not any(resources.gpus for resources in s.kubeflow.resources.values()),
        "no stage asks for gpus in kubeflow.resources",
    ),
)
"""Paths of settings, the condition under which they have no effect or only part of it, and why."""


def ineffective(settings: Settings) -> list[str]:
    """A sentence for every setting that the user gave but that has no effect given the others."""
    return [
        f"{path} has no effect: {why}"
        for path in sorted(settings.given)
        for paths, when, why in _RULES
        if path in paths.split() and when(settings)
    ]
