"""How a run ended, read from what its nodes left: the content of `last_run.json`."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Callable, Mapping

from core.artifacts import (
    backbone,
    exported_model,
    features,
    ingest_record,
    search,
    serving_check,
    training_summary,
    validation,
    verdict,
)
from core.artifacts.base import Artifact
from core.artifacts.last_run import (
    BAD_INPUT,
    INTERNAL_ERROR,
    PUSHED,
    REFUSED,
    Backbone,
    Failure,
    Images,
    Metric,
    Outcome,
    Tuning,
)
from core.artifacts.pushed_model import PUSHED_MODEL, pushed_to
from core.errors import input_error_behind, message_of
from pipeline.runs.lineage import NodeRun, Output, output
from trainer.training import search_space

Nodes = Mapping[str, NodeRun]


def from_nodes(nodes: Nodes, expected: list[str], pipeline_root: str) -> Outcome:
    """Reads the outcome of a run; what cannot be read becomes a note.

    Args:
        nodes: the nodes that were started, from ML Metadata.
        expected: ids of all nodes of the pipeline.
        pipeline_root: for the record.

    Returns:
        status `failed` if any expected node did not complete, `refused` if the gate or the serving check
        did not bless the model, else `pushed`.
    """
    outcome = Outcome("failed", INTERNAL_ERROR, pipeline_root)
    pushed = output(nodes, PUSHED_MODEL)
    outcome.pushed_model = pushed_to(pushed.properties) if pushed else None
    for artifact, read in _READERS.items():
        if found := output(nodes, artifact):
            try:
                read(outcome, nodes, found)
            except Exception as error:  # whatever a damaged file raises: the rest is still worth knowing
                logging.getLogger(__name__).exception("cannot read what %s left", artifact.node)
                outcome.notes.append(f"cannot read what {artifact.node} left: {error}")
    unfinished = [n for n in expected if n not in nodes or not nodes[n].finished]
    if unfinished:
        started = [n for n in unfinished if n in nodes]
        message = f"{', '.join(started) or unfinished[0]} did not complete"
        outcome.failures.append(Failure(message, stage=(started or unfinished)[0]))
    elif outcome.pushed_model:
        outcome.status, outcome.exit_code = "pushed", PUSHED
    else:
        outcome.status, outcome.exit_code = "refused", REFUSED
    return outcome


def mark_failed(outcome: Outcome, error: Exception) -> None:
    """Puts the cause of a failed run first among its failures, and the exit code right."""
    stage = outcome.stages[-1].id if outcome.stages else None
    cause = input_error_behind(error)
    message = message_of(cause) if cause else "".join(traceback.format_exception_only(type(error), error)).strip()
    others = [entry for entry in outcome.failures if stage is None or entry.stage != stage]  # says less
    outcome.status, outcome.exit_code = "failed", BAD_INPUT if cause else INTERNAL_ERROR
    outcome.failures = [Failure(message, stage=stage), *others]


def _read_images(outcome: Outcome, _: Nodes, record: Output) -> None:
    counts = ingest_record.COUNTS.read(record.uri)
    outcome.images = Images(
        counts.found, counts.ignored, counts.rejected, counts.read, **counts.splits, duplicates=counts.duplicates
    )


def _read_spans(outcome: Outcome, _: Nodes, examples: Output) -> None:
    outcome.spans = ingest_record.spans_of(examples.properties)


def _read_validation(outcome: Outcome, _: Nodes, verdict: Output) -> None:
    outcome.notes += validation.DATA_VERDICT.read(verdict.uri).notes


def _read_backbone(outcome: Outcome, _: Nodes, found: Output) -> None:
    record = backbone.RECORD.read(backbone.directory(found.uri))
    outcome.backbone = Backbone(record.source, record.sha256)
    if record.random and record.weights != "random":
        outcome.notes.append(
            f"the base is RANDOM: the weights {record.weights!r} could not be reached, and "
            "backbone.if_unreachable allows it; a pre-trained base does better"
        )


def _read_features(outcome: Outcome, nodes: Nodes, found: Output) -> None:
    if outcome.backbone:
        outcome.backbone = dataclasses.replace(outcome.backbone, cut=features.FEATURES_FILE.read(found.uri).cut)
    computed, reused = (int(found.properties.get(name, 0)) for name in (features.COMPUTED, features.REUSED))
    if nodes[features.EXTRACTED.node].cached:
        computed, reused = 0, computed + reused
    if outcome.images:
        outcome.images = dataclasses.replace(outcome.images, computed=computed, reused=reused)


def _read_search(outcome: Outcome, nodes: Nodes, best: Output) -> None:
    trials = output(nodes, search.TRIALS)
    if trials:
        found = search_space.as_settings(search.read_best(best.uri))
        outcome.tuning = Tuning(len(search.read_trials(trials.uri)), found)


def _read_model(outcome: Outcome, _: Nodes, model: Output) -> None:
    outcome.model = exported_model.serving_dir(model.uri)


def _read_training(outcome: Outcome, _: Nodes, model_run: Output) -> None:
    training = training_summary.SUMMARY.read(model_run.uri)
    outcome.warm_start = began = training.warm_start
    outcome.notes += training.notes
    if began and began.why_not:
        what = "its head" if began.head else "it"
        outcome.notes.append(f"warm start from {began.model}: {what} was not taken, {began.why_not}")


def _read_verdict(outcome: Outcome, _: Nodes, blessing: Output) -> None:
    judged = verdict.VERDICT.read(blessing.uri)
    overall = judged.overall
    for name, value in overall.metrics.items():
        baseline = overall.baseline.get(name) if overall.baseline else None
        outcome.metrics[name] = Metric(
            value.value,
            value.low,
            value.high,
            baseline.value if baseline else None,
            overall.change.get(name) if overall.change else None,
        )
    outcome.failures += [Failure(**dataclasses.asdict(failure)) for failure in judged.failures]
    outcome.notes += judged.notes


def _read_serving_check(outcome: Outcome, _: Nodes, blessing: Output) -> None:
    if blessing.properties.get(serving_check.BLESSED) != 1:
        message = f"serving check: {blessing.properties.get(serving_check.REASON)}"
        outcome.failures.append(Failure(message, stage=serving_check.BLESSING.node))


def _read_infra_validation(outcome: Outcome, _: Nodes, blessing: Output) -> None:
    if blessing.properties.get(serving_check.BLESSED) != 1:
        message = "TensorFlow Serving did not load the model, did not answer, or could not be started: see the log"
        outcome.failures.append(Failure(message, stage=serving_check.INFRA_VALIDATOR_BLESSING.node))


_READERS: dict[Artifact, Callable[[Outcome, Nodes, Output], None]] = {
    ingest_record.RECORD: _read_images,
    ingest_record.EXAMPLES: _read_spans,
    validation.VERDICT: _read_validation,
    backbone.BACKBONE: _read_backbone,
    features.EXTRACTED: _read_features,
    search.BEST: _read_search,
    exported_model.MODEL: _read_model,
    training_summary.MODEL_RUN: _read_training,
    verdict.BLESSING: _read_verdict,
    serving_check.BLESSING: _read_serving_check,
    serving_check.INFRA_VALIDATOR_BLESSING: _read_infra_validation,
}
