"""Settings that a user gave and that have no effect beside the others; what cannot work is refused instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from core import rules
from core.settings.beam import PortableEngine
from core.settings.data import DIGITS
from core.settings.settings import Settings


class _Rule(NamedTuple):
    """`settings`, by path, have no effect where `when` holds."""

    settings: tuple[str, ...]
    when: Callable[[Settings], object]
    because: str


_RULES = (
    _Rule(
        ("head.dropout",),
        lambda s: not s.head.hidden_units and not s.tuner,
        "head.hidden_units is [], so there is no layer whose units could be dropped",
    ),
    _Rule(
        ("head.hidden_units", "head.dropout", "head.l2"),
        lambda s: s.tuner,
        "the search under tuner decides it (tuner lists the values that it tries)",
    ),
    _Rule(("backbone.output",), lambda s: s.tuner and s.tuner.output, "tuner.output lists the blocks that are tried"),
    _Rule(
        ("tuner.dropout",),
        lambda s: s.tuner and not any(s.tuner.hidden_units),
        "tuner.hidden_units tries no hidden layer, so there is no layer whose units could be dropped",
    ),
    _Rule(
        ("tuner.algorithm",),
        lambda s: s.tuner and s.tuner.trials == 1,
        "tuner.trials is 1, so there are no earlier trials to learn from",
    ),
    _Rule(
        ("training.early_stopping",),
        lambda s: (
            s.training.early_stopping
            and s.training.head_steps + (s.training.early_stopping + 1) * s.training.eval_every >= s.training.steps
        ),
        "training ends (training.steps) before so many evaluations (training.eval_every) can follow the best one",
    ),
    _Rule(
        ("training.learning_rate.boundaries",),
        lambda s: any(boundary >= s.training.steps for boundary in s.training.learning_rate.boundaries),
        "a boundary at or above training.steps is never reached, nor is the rate after it",
    ),
    _Rule(
        ("backbone.if_unreachable",),
        lambda s: s.backbone.weights == "random",
        "backbone.weights is random, which needs no download",
    ),
    _Rule(
        ("runtime.feature_batch_size", "runtime.bfloat16"),
        lambda s: rules.features_cut(s.trainer) is None,
        "training reads images, so no features of a frozen prefix are computed",
    ),
    _Rule(
        ("data.bounds.leaked",),
        lambda s: s.data.layout == "class_folders" or s.data.images == DIGITS,
        "the layout gives no splits; those that are made here share no image",
    ),
    _Rule(
        ("data.layout",),
        lambda s: s.data.images == DIGITS,
        f"data.images is {DIGITS}, whose layout is known",
    ),
    _Rule(
        ("evaluation.on_doubt",),
        lambda s: not s.evaluation.thresholds and not s.evaluation.per_slice,
        "evaluation.thresholds and evaluation.per_slice demand nothing, so nothing can be in doubt",
    ),
    _Rule(
        ("serving.infra_validator",),
        lambda s: s.serving.validator == "serving_check",
        "serving.validator is serving_check",
    ),
    _Rule(
        ("serving.infra_validator.service_account",),
        lambda s: s.serving.validator == "infra_validator" and s.serving.infra_validator.platform == "docker",
        "serving.infra_validator.platform is docker; only pods have service accounts",
    ),
    _Rule(
        ("runtime.beam.flink_master", "runtime.beam.flink_version", "runtime.beam.spark_master_url"),
        lambda s: isinstance(s.runtime.beam, PortableEngine) and s.runtime.beam.job_endpoint,
        "the job server at runtime.beam.job_endpoint has a cluster of its own",
    ),
    _Rule(("airflow.retry_delay_minutes",), lambda s: s.airflow.retries == 0, "airflow.retries is 0"),
    _Rule(
        ("kubeflow.accelerator",),
        lambda s: not any(resources.gpus for resources in s.kubeflow.resources.values()),
        "no stage asks for gpus in kubeflow.resources",
    ),
)


def ineffective(settings: Settings, given: Iterable[str] | None = None) -> list[str]:
    """A sentence for every given setting that has no effect, or not all of its effect, beside the others.

    Args:
        settings: those of a run.
        given: paths of what the user gave; None takes `settings.given`. Defaults are never worth a word.
    """
    paths = sorted(settings.given if given is None else given)
    return [
        f"{path} has no effect here: {rule.because}"
        for path in paths
        for rule in _RULES
        if path in rule.settings and rule.when(settings)
    ]
