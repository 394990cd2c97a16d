"""Summarizes a training: what the rules decided, what the user should know, and `training_summary.json`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from core import inception_v3, rules
from core.artifacts import search
from core.artifacts.backbone import RECORD
from core.artifacts.training_summary import SUMMARY, LayerRange, Parameters, TrainingSummary
from core.errors import some
from core.settings.training import TrainerConfig
from trainer.arguments import FnArgs
from trainer.network import head
from trainer.training import warm_start
from trainer.training.certainty import Certainty
from trainer.training.train_loop import Trained

_FEW_IMAGES = 20


def layer_ranges(config: TrainerConfig) -> list[LayerRange]:
    """What the rules decided; consecutive layers with the same decision form one range."""
    matches = rules.matched(config.fine_tune, config.backbone.output)
    ranges = []
    for (multiplier, rule), group in itertools.groupby(matches, lambda match: (match.multiplier, match.rule)):
        run = list(group)
        parameters = sum(match.parameters for match in run)
        ranges.append(LayerRange(run[0].layer, run[-1].layer, len(run), multiplier, rule, parameters))
    return ranges


def notes_on_classes(classes: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """Warns of classes with fewer than 20 training images; `counts` has the images of each class."""
    small = [f"{name} {count}" for name, count in zip(classes, counts, strict=True) if count < _FEW_IMAGES]
    if not small:
        return ()
    return (
        f"few training images: {some(small)}; with fewer than {_FEW_IMAGES}, a class is learned poorly and its "
        "metrics are mostly chance: add images of it",
    )


def notes_on_rules(config: TrainerConfig) -> tuple[str, ...]:
    """Warns if the rules select layers to train but none of them has weights."""
    asked = [match for match in rules.matched(config.fine_tune, config.backbone.output) if match.multiplier > 0]
    if not asked or any(match.parameters for match in asked):
        return ()
    return (
        f"the whole base is frozen: fine_tune ({asked[0].rule}) selects {len(asked)} of its layers, {asked[0].layer} "
        f"to {asked[-1].layer}, and none of them has weights",
    )


def write(trained: Trained, certainty: Certainty, fn_args: FnArgs, resumed_at: int, seconds: float) -> TrainingSummary:
    """Writes the summary into `model_run_dir`; `resumed_at` is the step at which training resumed, or 0."""
    model, evaluations = trained.model, trained.evaluations
    config, best = model.config, evaluations.best
    steps, output = trained.steps, config.backbone.output
    in_head = sum(
        math.prod(shape)
        for name, shape in tf.train.list_variables(evaluations.best_checkpoint)
        if name.startswith(f"{head.SCOPE}/") and name.endswith(("kernel", "bias"))
    )
    in_base = sum(math.prod(shape) for layer in inception_v3.between(None, output) for _, shape in layer.weights)
    trained_in_base = sum(m.parameters for m in rules.matched(config.fine_tune, output) if m.multiplier > 0)
    notes = [*notes_on_rules(config), *notes_on_classes(model.classes, trained.counts)]
    if resumed_at:
        notes.append(f"training resumed at step {resumed_at}, where an earlier run was stopped")
    if not best.step:
        notes.append(
            "training did not improve on the last blessed model: no evaluation had a lower loss than its own, so it is "
            "exported unchanged; try a lower training.learning_rate, or keep it if the new images change little"
        )
    summary = TrainingSummary(
        steps=steps,
        max_steps=config.training.steps,
        stopped_early=evaluations.should_stop() and steps < config.training.steps,
        seconds=round(seconds, 1),
        best=best,
        evaluations=evaluations.history,
        calibration=certainty.calibration,
        novelty=certainty.novelty,
        abstention=certainty.abstention,
        classes=list(model.classes),
        class_weights=list(model.class_weights) if model.class_weights else None,
        cut=model.cut,
        rules=layer_ranges(config),
        trained_layers=rules.trained_layers(config.fine_tune, output),
        parameters=Parameters(trained_in_base + in_head, in_head, in_base - trained_in_base),
        backbone=RECORD.read(fn_args.base_model),
        warm_start=warm_start.read_record(fn_args.model_run_dir),
        notes=notes,
        chosen=search.chosen(fn_args.hyperparameters["values"], config) if fn_args.hyperparameters else None,
    )
    SUMMARY.write(fn_args.model_run_dir, summary)
    return summary
