"""How a run ended, derived from what its nodes left: the content of `last_run.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2

from core import atomic_io
from core.artifacts import (
    backbone,
    exported_model,
    features,
    ingest_record,
    last_run,
    mlflow_model,
    predictions,
    search,
    serving_check,
    suspects,
    tflite_files,
    training_summary,
    validation,
    verdict,
)
from core.artifacts.base import split_dir
from core.artifacts.last_run import Failure, Outcome
from core.artifacts.nodes import ANOMALIES, ANOMALIES_FILE
from core.artifacts.pushed_model import DECIDED, PUSHED_MODEL, REJECTED_TO, WAITS, Decision, again, pushed_to
from core.errors import Cause, some
from core.examples import IMAGE
from core.settings.converter import from_json
from pipeline.runs.lineage import NodeRun, Output, Reader, output

_NOT_SERVED = "TensorFlow Serving did not load the model, did not answer, or could not be started: see the log"
_ACCURACY = "accuracy"
_MANY_ERRORS = 0.03  # of the labels: worth a note
_IMAGES = 50  # that a failure names, as in the verdict


def from_nodes(nodes: Mapping[str, NodeRun], expected: list[str], pipeline_root: str) -> Outcome:
    """Derives the outcome of a run from the nodes that were started; what cannot be read becomes a note.

    Returns:
        status `failed` if any `expected` node did not complete, `refused` if the gate or the serving check
        did not bless the model or people rejected it, `waiting` if they are to decide, `finished` if Pusher was not
        expected, else `pushed`.
    """
    outcome = Outcome("failed", last_run.INTERNAL_ERROR, pipeline_root)
    left = output(nodes, PUSHED_MODEL)
    properties = left.properties if left else {}
    outcome.pushed_model, outcome.waiting = pushed_to(properties), properties.get(WAITS) or None
    if published := output(nodes, mlflow_model.MLFLOW_MODEL):
        outcome.registered_model = published.properties.get(mlflow_model.REGISTERED)
    reader = Reader(nodes)
    _read_data(outcome, reader)
    _read_labels(outcome, reader)
    _read_training(outcome, reader)
    _read_verdicts(outcome, reader)
    outcome.notes += reader.problems
    unfinished = [n for n in expected if n not in nodes or not nodes[n].finished]
    if unfinished:
        started = [n for n in unfinished if n in nodes]
        message = f"{', '.join(started) or unfinished[0]} did not complete"
        outcome.failures.append(Failure(message, stage=(started or unfinished)[0]))
    elif DECIDED in properties:
        place = outcome.pushed_model or str(properties.get(REJECTED_TO))
        decided(outcome, from_json(str(properties[DECIDED]), Decision), place)
    elif outcome.pushed_model or outcome.waiting:
        outcome.status, outcome.exit_code = "pushed" if outcome.pushed_model else "waiting", last_run.PUSHED
    elif PUSHED_MODEL.node not in expected and not outcome.failures:
        outcome.status, outcome.exit_code = "finished", last_run.PUSHED
    else:
        outcome.status, outcome.exit_code = "refused", last_run.REFUSED
    return outcome


def decided(outcome: Outcome, decision: Decision, place: str) -> None:
    """Records in an outcome what people decided about its model, which was pushed or moved to `place`."""
    if outcome.approval == decision:  # by a process that was killed before it had recorded the decision everywhere
        return
    outcome.waiting, outcome.approval = None, decision
    if decision.decision == "approved":
        outcome.status, outcome.exit_code, outcome.pushed_model = "pushed", last_run.PUSHED, place
    else:
        outcome.status, outcome.exit_code = "refused", last_run.REFUSED
        outcome.inputs = None  # the next run checks whether the decision still stands
        outcome.failures.append(Failure(f"the model was {decision}; {again(place)}", stage=PUSHED_MODEL.node))


def objection(nodes: Mapping[str, NodeRun], node: str) -> str | None:
    """Why a finished node finds the data or the model unfit, in words; None if it does not, or judges nothing."""
    reader = Reader(nodes)
    if node == verdict.BLESSING.node:
        judged = reader.read(verdict.BLESSING, verdict.VERDICT.read)
        return "; ".join(judged.reasons) or None if judged else None
    if node == PUSHED_MODEL.node:
        left = output(nodes, PUSHED_MODEL)
        gone = left and not pushed_to(left.properties) and not left.properties.get(WAITS)
        return "nothing pushed" if gone else None
    if node == ANOMALIES.node:
        found = output(nodes, ANOMALIES)
        return reader.attempt("cannot read the anomalies", lambda: _anomalies(found)) if found else None
    return next((reason or _NOT_SERVED for stage, reason in _not_served(nodes) if stage == node), None)


def _anomalies(found: Output) -> str | None:
    """The splits that do not fit the schema, with the features at fault."""
    splits = []
    for split in json.loads(found.properties["split_names"]):
        with atomic_io.open_file(f"{split_dir(found.uri, split)}/{ANOMALIES_FILE}", "rb") as file:
            anomalies = anomalies_pb2.Anomalies.FromString(file.read()).anomaly_info
        errors = [name for name, info in anomalies.items() if info.severity == anomalies_pb2.AnomalyInfo.ERROR]
        errors = sorted({*errors} - {IMAGE})  # of whose bytes nobody wants statistics
        if errors:
            splits.append(f"{split}: {some(errors)}")
    return f"anomalies in {'; '.join(splits)}" if splits else None


def _not_served(nodes: Mapping[str, NodeRun]) -> Iterator[tuple[str, str | None]]:
    """The validator that found the model unfit to serve, and its reason, which TFX's own does not give."""
    for blessing in (serving_check.BLESSING, serving_check.INFRA_VALIDATOR_BLESSING):
        found = output(nodes, blessing)
        if found and found.properties.get(serving_check.BLESSED) != 1:
            yield blessing.node, found.properties.get(serving_check.REASON)


def mark_failed(outcome: Outcome, cause: Cause, stage: str | None) -> None:
    """Puts the cause of a failed run first among its failures, and corrects the exit code."""
    others = [entry for entry in outcome.failures if stage is None or entry.stage != stage]  # which say less
    outcome.status, outcome.exit_code = "failed", last_run.EXIT_CODES[cause.blame]
    outcome.failures = [Failure(cause.message, stage=stage), *others]


def _read_data(outcome: Outcome, reader: Reader) -> None:
    """Reads the images, the spans, the network and its features."""
    counts = reader.read(ingest_record.RECORD, ingest_record.COUNTS.read)
    computed = reused = None
    if extracted := output(reader.nodes, features.EXTRACTED):
        computed, reused = (int(extracted.properties.get(name, 0)) for name in (features.COMPUTED, features.REUSED))
        if reader.nodes[features.EXTRACTED.node].cached:
            computed, reused = 0, computed + reused
    if counts:
        files = counts.found, counts.ignored, counts.rejected, counts.left_out, counts.read
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


def _read_labels(outcome: Outcome, reader: Reader) -> None:
    found = reader.read(suspects.SUSPECTS, suspects.QUALITY.read)
    left = output(reader.nodes, suspects.SUSPECTS)
    if not found or not left or found.reason:
        return
    rate, listed = found.error_rate, f"{left.uri}/{suspects.SUSPECTS_CSV}"
    outcome.labels = last_run.Labels(found.images, found.errors, rate.low, rate.high, listed)
    if rate.value is not None and rate.value > _MANY_ERRORS:
        outcome.notes.append(
            f"{found.errors:,} of {found.images:,} labels seem wrong ({rate.value:.1%}; 95% CI {rate.low:.1%} to "
            f"{rate.high:.1%}): look through {listed}, or the report's section Suspect labels; correct those that are "
            "wrong, and run again"
        )


def _read_training(outcome: Outcome, reader: Reader) -> None:
    best = reader.read(search.BEST, search.read_best)
    trials = reader.read(search.TRIALS, search.read_trials)
    if best and trials:
        outcome.tuning = last_run.Tuning(len(trials), best)
    nodes = reader.nodes
    if model := output(nodes, tflite_files.MODEL) or output(nodes, exported_model.MODEL):
        outcome.model = exported_model.serving_dir(model.uri)
    if training := reader.read(training_summary.MODEL_RUN, training_summary.SUMMARY.read):
        outcome.warm_start = began = training.warm_start
        outcome.calibration = training.calibration
        outcome.abstention = training.abstention
        outcome.notes += training.notes
        if outcome.tuning and training.chosen:
            outcome.tuning = dataclasses.replace(outcome.tuning, best=training.chosen)
        if began and began.why_not:
            what = "its head" if began.head else "it"
            outcome.notes.append(f"warm start from {began.model}: {what} was not taken, {began.why_not}")


def _read_verdicts(outcome: Outcome, reader: Reader) -> None:
    """Reads what the gate and the serving check say about the model."""
    predicted = output(reader.nodes, predictions.PREDICTIONS)
    if predicted and (said := predicted.properties.get(predictions.FEATURES_DISAGREED)):
        outcome.notes.append(f"{said}: the predictions are those from the pictures")
    if judged := reader.read(verdict.BLESSING, verdict.VERDICT.read):
        baseline, change = judged.overall.baseline or {}, judged.overall.change or {}
        for name, now in judged.overall.metrics.items():
            then = baseline[name].value if name in baseline else None
            outcome.metrics[name] = last_run.Metric(now.value, now.low, now.high, then, change.get(name))
        for one in judged.exports:
            file, accuracy = one.export, one.metrics[_ACCURACY]
            described = file.file, file.bytes, file.latency_ms
            outcome.exports[file.format] = last_run.Export(*described, accuracy, one.change[_ACCURACY])
        outcome.failures += [Failure(**dataclasses.asdict(failure)) for failure in judged.failures]
        outcome.notes += judged.notes
        if past := judged.regressions:
            outcome.regressions = last_run.Regressions(past.images, len(past.wrong), past.allowed)
            if past.message:
                paths = [one.path for one in past.wrong]
                outcome.failures.append(Failure(past.message, stage=verdict.BLESSING.node, images=paths[:_IMAGES]))
        if judged.abstention:
            outcome.failures.append(Failure(judged.abstention, stage=verdict.BLESSING.node))
    for stage, reason in _not_served(reader.nodes):
        outcome.failures.append(Failure(f"serving check: {reason}" if reason else _NOT_SERVED, stage=stage))
