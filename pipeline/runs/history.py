"""Every run of a pipeline, from ML Metadata: how it ended, what it measured, and the settings it had.

ML Metadata knows stages and artifacts; what a run was started with and how it ended as a whole is added to its context
when it ends (`record`). A run without that was interrupted, or ran elsewhere: its stages then tell what they can.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.artifacts.predictions import PREDICTIONS_FILE, Prediction, Scores, read_predictions, read_scores
from core.artifacts.verdict import VERDICT
from core.errors import InputError
from pipeline.runs import lineage
from pipeline.runs.outcome import RECORD_FILE, Outcome, metrics_of

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as pb

METADATA = "metadata.sqlite"
"""ML Metadata's store, in the pipeline's folder."""

_LAST_STAGE = "Pusher"
_SETTINGS, _STATUS, _SECONDS = "settings", "status", "seconds"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        id: ML Metadata's name of it.
        started: local time.
        status: pushed, refused, failed, or unfinished.
        seconds: that it took; None if it did not end.
        settings: that it had, as plain values; None where they were not recorded.
        metrics: of the whole test split, as `gate.json` has them; empty if the gate was not reached.
        examples: test images.
        version: that was pushed.
        predicted: folder of `PREDICTIONS_FILE`; None if there is none, or it was deleted.
    """

    id: str
    started: datetime
    status: str
    seconds: float | None
    settings: dict[str, Any] | None
    metrics: dict[str, dict[str, Any]]
    examples: int | None
    version: str | None
    predicted: Path | None

    def predictions(self) -> list[Prediction]:
        """Of all test images, by path; none where they are gone."""
        return read_predictions(self.predicted) if self.predicted else []

    def scores(self) -> Scores | None:
        """Of the same images; None where they are gone."""
        return read_scores(self.predicted) if self.predicted else None


def open_store(home: Path) -> MetadataStore:
    """ML Metadata of the pipeline whose folder this is.

    Raises:
        InputError: nothing was ever run there.
    """
    if not (home / METADATA).is_file():
        raise InputError(f"there are no runs in {home}: run the pipeline first, or give its CONFIG and ROOT")
    from ml_metadata.metadata_store import MetadataStore
    from ml_metadata.proto import metadata_store_pb2 as pb

    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(home / METADATA)
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE  # READONLY fails on a locked file
    return MetadataStore(config)


def record(store: MetadataStore, name: str, run_id: str, settings: Mapping[str, Any], outcome: Outcome) -> None:
    """Adds to a run's context what its stages do not know."""
    context = next(c for c in lineage.run_contexts(store, name) if c.name == run_id)
    context.custom_properties[_SETTINGS].string_value = json.dumps(settings, ensure_ascii=False)
    context.custom_properties[_STATUS].string_value = outcome.status
    context.custom_properties[_SECONDS].double_value = outcome.seconds
    store.put_contexts([context])


def all_runs(store: MetadataStore, name: str, last: str | None = None, most: int | None = None) -> list[Run]:
    """Runs of the pipeline of that name, oldest first.

    Args:
        store: ML Metadata.
        name: of the pipeline.
        last: id of the last run wanted; None: up to the newest.
        most: how many, the last ones; None: all.
    """
    return [_run(store, context) for context in contexts_up_to(store, name, last)[-(most or 0) :]]


def contexts_up_to(store: MetadataStore, name: str, last: str | None) -> list[pb.Context]:
    """The contexts of all runs up to and including `last`, oldest first."""
    contexts = lineage.run_contexts(store, name)
    ids = [context.name for context in contexts]
    return contexts[: ids.index(last) + 1] if last in ids else contexts


def find(reference: str, home: Path, name: str) -> Run:
    """The run somebody means.

    Args:
        reference: a run's id or the beginning of one; or a path: of a pipeline's folder, or of its `last_run.json`.
        home: the pipeline's folder in which ids are looked for.
        name: of that pipeline.

    Raises:
        InputError: there is no such run, or there are several.
    """
    path = Path(reference)
    folder = path.parent if path.name == RECORD_FILE else path
    if (folder / RECORD_FILE).is_file():
        last = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")).get("run_id")
        if not last:
            raise InputError(f"{folder / RECORD_FILE} names no run: it failed before its first stage")
        return find(last, folder.resolve(), folder.resolve().name)
    store = open_store(home)
    contexts = [c for c in lineage.run_contexts(store, name) if c.name.startswith(reference)]
    exact = [c for c in contexts if c.name == reference]
    if len(exact or contexts) != 1:
        last = ", ".join(sorted(c.name for c in contexts)[-5:])
        found = f"{len(contexts)} begin so, the last of them {last}" if contexts else "there is none"
        raise InputError(f"no single run {reference!r} in {home} ({found}); `make history` lists them all")
    return _run(store, (exact or contexts)[0])


def _run(store: MetadataStore, context: pb.Context) -> Run:
    nodes = lineage.node_runs(store, context.name)
    recorded = context.custom_properties
    status, version = _status_of(nodes)
    if _STATUS in recorded:
        status = recorded[_STATUS].string_value
    elif status == "failed" and not any(node.state == "failed" for node in nodes.values()):
        status = "unfinished"
    gate, predicted = _folder(nodes, "ModelGate", "blessing"), _folder(nodes, "Predictor", "predictions")
    examples = _first(nodes, "ImageExampleGen", "examples")
    count = examples.properties.get("examples_test") if examples else None
    return Run(
        id=context.name,
        started=datetime.fromtimestamp(context.create_time_since_epoch / 1000),
        status=status,
        seconds=recorded[_SECONDS].double_value if _SECONDS in recorded else None,
        settings=json.loads(recorded[_SETTINGS].string_value) if _SETTINGS in recorded else None,
        metrics=metrics_of(VERDICT.read(gate).overall) if gate and Path(VERDICT.path(gate)).is_file() else {},
        examples=int(count) if count is not None else None,
        version=version,
        predicted=predicted if predicted and Path(PREDICTIONS_FILE.path(predicted)).is_file() else None,
    )


def _status_of(nodes: Mapping[str, lineage.NodeRun]) -> tuple[str, str | None]:
    """`pushed`, `refused` or `failed`, as far as the stages tell, and the version that was pushed."""
    pushed = _first(nodes, _LAST_STAGE, "pushed_model")
    if pushed is None:
        return "failed", None
    if pushed.properties.get("pushed") != 1:
        return "refused", None
    return "pushed", str(pushed.properties["pushed_version"])


def _first(nodes: Mapping[str, lineage.NodeRun], node: str, output: str) -> lineage.Output | None:
    run = nodes.get(node)
    outputs = run.outputs.get(output) if run and run.state in ("complete", "cached") else None
    return outputs[0] if outputs else None


def _folder(nodes: Mapping[str, lineage.NodeRun], node: str, output: str) -> Path | None:
    found = _first(nodes, node, output)
    return Path(found.uri) if found else None
