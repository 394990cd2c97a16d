"""How a run ended, read from what its nodes left: the content of `last_run.json`."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping

from core.artifacts import (
    backbone,
    exported_model,
    features,
    ingest_record,
    last_run,
    search,
    serving_check,
    training_summary,
    validation,
    verdict,
)
from core.artifacts.last_run import Failure, Outcome
from core.artifacts.pushed_model import PUSHED_MODEL, pushed_to
from core.errors import message_for_user
from pipeline.runs.lineage import NodeRun, Reader, output

_NOT_SERVED = "TensorFlow Serving did not load the model, did not answer, or could not be started: see the log"


def from_nodes(nodes: Mapping[str, NodeRun], expected: list[str], pipeline_root: str) -> Outcome:
    """Reads the outcome of a run from those nodes that were started; what cannot be read becomes a note.

    Returns:
        status `failed` if any `expected` node did not complete, `refused` if the gate or the serving check
        did not bless the model, else `pushed`.
    """
    outcome = Outcome("failed", last_run.INTERNAL_ERROR, pipeline_root)
    if pushed := output(nodes, PUSHED_MODEL):
        outcome.pushed_model = pushed_to(pushed.properties)
    reader = Reader(nodes)
    _read_data(outcome, reader)
    _read_training(outcome, reader)
    _read_verdicts(outcome, reader)
    outcome.notes += reader.problems
    unfinished = [n for n in expected if n not in nodes or not nodes[n].finished]
    if unfinished:
        started = [n for n in unfinished if n in nodes]
        message = f"{', '.join(started) or unfinished[0]} did not complete"
        outcome.failures.append(Failure(message, stage=(started or unfinished)[0]))
    elif outcome.pushed_model:
        outcome.status, outcome.exit_code = "pushed", last_run.PUSHED
    else:
        outcome.status, outcome.exit_code = "refused", last_run.REFUSED
    return outcome


def mark_failed(outcome: Outcome, error: Exception) -> None:
    """Puts the cause of a failed run first among its failures, and the exit code right."""
    stage = outcome.stages[-1].id if outcome.stages else None
    bad_input = message_for_user(error)
    message = bad_input or "".join(traceback.format_exception_only(type(error), error)).strip()
    others = [entry for entry in outcome.failures if stage is None or entry.stage != stage]  # says less
    outcome.status, outcome.exit_code = "failed", last_run.BAD_INPUT if bad_input else last_run.INTERNAL_ERROR
    outcome.failures = [Failure(message, stage=stage), *others]


def _read_data(outcome: Outcome, reader: Reader) -> None:
    """Images, spans, the network and its features."""
    counts = reader.read(ingest_record.RECORD, ingest_record.COUNTS.read)
    computed = reused = None
    if extracted := output(reader.nodes, features.EXTRACTED):
        computed, reused = (int(extracted.properties.get(name, 0)) for name in (features.COMPUTED, features.REUSED))
        if reader.nodes[features.EXTRACTED.node].cached:
            computed, reused = 0, computed + reused
    if counts:
        files = counts.found, counts.ignored, counts.rejected, counts.read
        outcome.images = last_run.Images(
            *files,
            **counts.splits,
            duplicates=counts.duplicates,
            computed=computed,
            reused=reused,
            ignored_by=counts.ignored_by,
            linked_to=counts.linked_to,
        )
    if examples := output(reader.nodes, ingest_record.EXAMPLES):
        outcome.spans = ingest_record.spans_of(examples.properties)
    if validated := reader.read(validation.VERDICT, validation.DATA_VERDICT.read):
        outcome.notes += validated.notes
    record = reader.read(backbone.BACKBONE, lambda uri: backbone.RECORD.read(exported_model.serving_dir(uri)))
    found = reader.read(features.EXTRACTED, features.FEATURES_FILE.read)
    if record:
        outcome.backbone = last_run.Backbone(record.source, record.sha256, found.cut if found else None)
        if record.random and record.weights != "random":
            outcome.notes.append(
                f"the base is RANDOM: the weights {record.weights!r} could not be reached, and "
                "backbone.if_unreachable allows it; a pre-trained base does better"
            )


def _read_training(outcome: Outcome, reader: Reader) -> None:
    best = reader.read(search.BEST, search.read_best)
    trials = reader.read(search.TRIALS, search.read_trials)
    if best and trials:
        outcome.tuning = last_run.Tuning(len(trials), best)
    if model := output(reader.nodes, exported_model.MODEL):
        outcome.model = exported_model.serving_dir(model.uri)
    if training := reader.read(training_summary.MODEL_RUN, training_summary.SUMMARY.read):
        outcome.warm_start = began = training.warm_start
        outcome.notes += training.notes
        if began and began.why_not:
            what = "its head" if began.head else "it"
            outcome.notes.append(f"warm start from {began.model}: {what} was not taken, {began.why_not}")


def _read_verdicts(outcome: Outcome, reader: Reader) -> None:
    """What the gate and the serving check say of the model."""
    if judged := reader.read(verdict.BLESSING, verdict.VERDICT.read):
        baseline, change = judged.overall.baseline or {}, judged.overall.change or {}
        for name, now in judged.overall.metrics.items():
            then = baseline[name].value if name in baseline else None
            outcome.metrics[name] = last_run.Metric(now.value, now.low, now.high, then, change.get(name))
        outcome.failures += [Failure(**dataclasses.asdict(failure)) for failure in judged.failures]
        outcome.notes += judged.notes
    for blessing in (serving_check.BLESSING, serving_check.INFRA_VALIDATOR_BLESSING):
        found = output(reader.nodes, blessing)
        if found and found.properties.get(serving_check.BLESSED) != 1:
            reason = found.properties.get(serving_check.REASON)  # TFX's own validator gives none
            message = f"serving check: {reason}" if reason else _NOT_SERVED
            outcome.failures.append(Failure(message, stage=blessing.node))
