"""How a run ended, read from what its nodes left: the content of `last_run.json` and the last words on the screen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from core import atomic_io
from core.artifacts.verdict import VERDICT, SliceMetrics
from pipeline.runs.lineage import NodeRun, Output
from trainer.training import search_space

RECORD_FILE = "last_run.json"

SETTINGS_FILE = "last_run_settings.json"
"""Every setting that run had."""

PUSHED, FAULT, BAD_INPUT, REFUSED = 0, 1, 2, 3
"""Exit codes: pushed; a fault of ours; bad input or settings; the gate refused."""


_COUNTS = ("found", "ignored", "rejected", "read", "train", "eval", "test", "duplicates")


@dataclasses.dataclass
class Outcome:
    """See docs/operating.md for every key; `last_run.json` holds them under the same names."""

    status: str
    exit_code: int
    pipeline_root: str
    run_id: str | None = None
    pushed_model: str | None = None
    model: str | None = None
    report: str | None = None
    seconds: float = 0.0
    peak_rss_mb: int = 0
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    spans: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    backbone: dict[str, Any] = dataclasses.field(default_factory=dict)
    warm_start: dict[str, Any] | None = None
    tuning: dict[str, Any] | None = None
    metrics: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    failures: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    stages: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: str | None = None

    def write(self, path: Path) -> None:
        """Replaces `path` with this outcome in one step."""
        atomic_io.write_text(path, json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n")


def failure(message: str, **details: Any) -> dict[str, Any]:
    """An entry of `failures`; every one has at least a message."""
    return {"message": message, **details}


def from_nodes(nodes: Mapping[str, NodeRun], expected: list[str], pipeline_root: str) -> Outcome:
    """Reads the outcome of a run.

    Args:
        nodes: the nodes that were started, from ML Metadata.
        expected: ids of all nodes of the pipeline.
        pipeline_root: for the record.

    Returns:
        status `failed` if any expected node did not complete, `refused` if the gate or the serving check
        did not bless the model, else `pushed`.
    """
    outcome = Outcome("failed", FAULT, pipeline_root)
    _read_details(outcome, nodes)
    pushed = _output(nodes, "Pusher", "pushed_model")
    if pushed and pushed.properties.get("pushed") == 1:
        outcome.pushed_model = str(pushed.properties["pushed_destination"])
    unfinished = [n for n in expected if n not in nodes or nodes[n].state not in ("complete", "cached")]
    if unfinished:
        started = [n for n in unfinished if n in nodes]
        outcome.failures.append(
            failure(f"{', '.join(started) or unfinished[0]} did not complete", stage=(started or unfinished)[0])
        )
        return outcome
    if outcome.pushed_model:
        outcome.status, outcome.exit_code = "pushed", PUSHED
    else:
        outcome.status, outcome.exit_code = "refused", REFUSED
    return outcome


def _read_details(outcome: Outcome, nodes: Mapping[str, NodeRun]) -> None:
    """Fills in all that the nodes which completed have to say."""
    rejects = _output(nodes, "ImageExampleGen", "rejects")
    if rejects:
        counts = _json(rejects.uri, "counts.json")
        outcome.images = {key: counts[key] for key in _COUNTS}
    examples = _output(nodes, "ImageExampleGen", "examples")
    if examples:
        outcome.spans = json.loads(str(examples.properties.get("spans", "[]")))
    verdict = _output(nodes, "ValidationGate", "verdict")
    if verdict:
        outcome.notes += _json(verdict.uri, "data_gate.json")["notes"]
    backbone = _output(nodes, "BackboneImporter", "backbone")
    if backbone:
        record = _json(backbone.uri, "Format-Serving/backbone.json")
        outcome.backbone = {"weights": record["source"], "sha256": record["sha256"], "cut": None}
        if record["random"] and record["weights"] != "random":
            outcome.notes.append(
                f"the base is RANDOM: the weights {record['weights']!r} could not be reached, and "
                "backbone.if_unreachable allows it; a pre-trained base does better"
            )
    features = _output(nodes, "FeatureExtractor", "features")
    if features:
        outcome.backbone["cut"] = _json(features.uri, "features.json")["cut"]
        computed, known = (int(features.properties.get(f"images_{what}", 0)) for what in ("computed", "reused"))
        ran = nodes["FeatureExtractor"].state == "complete"
        outcome.images |= {"computed": computed if ran else 0, "reused": known if ran else computed + known}
    best, trials = _output(nodes, "Tuner", "best_hyperparameters"), _output(nodes, "Tuner", "tuner_results")
    if best and trials:
        values = _json(best.uri, "best_hyperparameters.txt")["values"]
        outcome.tuning = {
            "trials": len(_json(trials.uri, "tuner_results.json")),
            "best": search_space.as_settings(values),
        }
    model = _output(nodes, "Trainer", "model")
    if model:
        outcome.model = f"{model.uri}/Format-Serving"
    run = _output(nodes, "Trainer", "model_run")
    if run:
        training = _json(run.uri, "training_summary.json")
        outcome.warm_start = training.get("warm_start")
        outcome.notes += training.get("notes", [])
    if outcome.warm_start and outcome.warm_start["why_not"]:
        what = "its head" if outcome.warm_start["head"] else "it"
        model = outcome.warm_start["model"]
        outcome.notes.append(f"warm start from {model}: {what} was not taken, {outcome.warm_start['why_not']}")
    gate = _output(nodes, "ModelGate", "blessing")
    if gate:
        judged = VERDICT.read(gate.uri)
        outcome.metrics = metrics_of(judged.overall)
        outcome.failures += [dataclasses.asdict(failure) for failure in judged.failures]
        outcome.notes += judged.notes
    check = _output(nodes, "ServingCheck", "blessing")
    if check and check.properties.get("blessed") != 1:
        outcome.failures.append(failure(f"serving check: {check.properties.get('reason')}", stage="ServingCheck"))
    infra = _output(nodes, "InfraValidator", "blessing")
    if infra and infra.properties.get("blessed") != 1:
        message = "TensorFlow Serving did not load the model, did not answer, or could not be started: see the log"
        outcome.failures.append(failure(message, stage="InfraValidator"))


def metrics_of(overall: SliceMetrics) -> dict[str, dict[str, Any]]:
    """The metrics of the whole test split under the keys of `last_run.json`."""
    baseline, change = overall.baseline or {}, overall.change or {}
    return {
        name: {
            "overall": found.value,
            "low": found.low,
            "high": found.high,
            "baseline": baseline[name].value if name in baseline else None,
            "change": msgspec.to_builtins(change.get(name)),
        }
        for name, found in overall.metrics.items()
    }


def _output(nodes: Mapping[str, NodeRun], node: str, key: str) -> Output | None:
    outputs = nodes[node].outputs.get(key) if node in nodes and nodes[node].state in ("complete", "cached") else None
    return outputs[0] if outputs else None


def _json(directory: str, name: str) -> Any:
    return json.loads((Path(directory) / name).read_text(encoding="utf-8"))
