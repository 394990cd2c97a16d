"""`training_summary.json`: what was trained, from what, how far, and how well; for the report and for people."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from core import inception_v3, rules
from core.settings.training import TrainerConfig
from trainer.network.backbone import BackboneRecord
from trainer.network.model import Model
from trainer.training.evaluations import Evaluations
from trainer.training.warm_start import WarmStart

FILE_NAME = "training_summary.json"
_FEW_IMAGES = 20


def rule_table(config: TrainerConfig) -> list[dict[str, Any]]:
    """What the rules decided, a row for every run of neighbouring layers with the same fate.

    Returns:
        Rows of `first` and `last` (layers), `layers` (how many), `multiplier`, `rule`, `parameters` (trainable numbers;
        BatchNorm statistics not counted).
    """
    matches = rules.matched(config.fine_tune, config.backbone.output)
    rows = []
    for (multiplier, rule), group in itertools.groupby(matches, lambda m: (m.multiplier, m.rule)):
        run = list(group)
        rows.append(
            {
                "first": run[0].layer,
                "last": run[-1].layer,
                "layers": len(run),
                "multiplier": multiplier,
                "rule": rule,
                "parameters": sum(m.parameters for m in run),
            }
        )
    return rows


def notes_on_classes(classes: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """Warns of classes with fewer than 20 training images.

    Args:
        classes: names.
        counts: training images of each.
    """
    small = [f"{name} {count}" for name, count in zip(classes, counts, strict=True) if count < _FEW_IMAGES]
    if not small:
        return ()
    return (
        f"few training images: {', '.join(small)}; with fewer than {_FEW_IMAGES} a class is learnt badly and its "
        "measures are chance: add images of it",
    )


def notes_on_rules(config: TrainerConfig) -> tuple[str, ...]:
    """Says so where layers are to train and none of them has anything that could."""
    asked = [match for match in rules.matched(config.fine_tune, config.backbone.output) if match.multiplier > 0]
    if not asked or any(match.parameters for match in asked):
        return ()
    return (
        f"the whole base is frozen: fine_tune ({asked[0].rule}) selects {len(asked)} of its layers, {asked[0].layer} "
        f"to {asked[-1].layer}, and none of them has weights",
    )


def notes_on_resumption(step: int) -> tuple[str, ...]:
    """Says so where training did not begin at step 0."""
    return (f"training went on at step {step}, where an earlier run was stopped",) if step else ()


def notes_on_best(evaluations: Evaluations) -> tuple[str, ...]:
    """Says so where no step of the training was better than the earlier model it began with."""
    if evaluations.best["step"] > 0:
        return ()
    return (
        "training did not make the last blessed model better: no evaluation had a lower loss than it has itself, so it "
        "is exported as it was; try a lower training.learning_rate, or leave it if the new images change little",
    )


def training_summary(
    model: Model,
    record: BackboneRecord,
    head_parameters: int,
    evaluations: Evaluations,
    steps: int,
    seconds: float,
    warm_start: WarmStart | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The summary's content.

    Args:
        model: what was trained.
        record: of the backbone it started from.
        head_parameters: numbers the head trains.
        evaluations: of this run.
        steps: done in all, with those before a restart.
        seconds: this call of `run_fn` took.
        warm_start: what it began with of an earlier model.
        notes: what the user should know.
    """
    config = model.config
    output = config.backbone.output
    matches = rules.matched(config.fine_tune, output)
    trained = sum(m.parameters for m in matches if m.multiplier > 0)
    in_base = sum(math.prod(shape) for layer in inception_v3.between(None, output) for _, shape in layer.weights)
    return {
        "steps": steps,
        "max_steps": config.training.steps,
        "stopped_early": evaluations.should_stop() and steps < config.training.steps,
        "seconds": round(seconds, 1),
        "best": evaluations.best,
        "evaluations": evaluations.history,
        "classes": list(model.classes),
        "class_weights": model.class_weights and list(model.class_weights),
        "cut": model.cut,
        "rules": rule_table(config),
        "trained_layers": rules.trained_layers(config.fine_tune, output),
        "parameters": {"trained": trained + head_parameters, "head": head_parameters, "frozen": in_base - trained},
        "backbone": dataclasses.asdict(record),
        "warm_start": warm_start and dataclasses.asdict(warm_start),
        "notes": list(notes),
    }
