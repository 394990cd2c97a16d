"""Every run of a pipeline, from ML Metadata: how it ended, what it measured, and the settings it had.

ML Metadata knows stages and artifacts; a run's settings and its outcome as a whole are added to the run's context when
it ends (`record`). A run without them was interrupted; only what its stages left is known.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.last_run import LAST_RUN, Metric, Outcome, Status, Tuning
from core.artifacts.predictions import (
    PREDICTIONS,
    PREDICTIONS_FILE,
    Prediction,
    Scores,
    read_predictions,
    read_scores,
)
from core.artifacts.pushed_model import PUSHED_MODEL, pushed_to
from core.errors import InputError
from core.settings.converter import from_dict, from_json, to_dict, to_json
from core.settings.runtime import MetadataServer
from core.settings.training import LearningRateConfig
from pipeline.runs import lineage
from pipeline.runs.metadata import open_store, server_of
from pipeline.runs.outcome import from_nodes

_SETTINGS, _OUTCOME = "settings", "outcome"  # custom properties of a run's context


@dataclasses.dataclass(frozen=True)
class Run:
    """One run; an unfinished one has neither seconds nor settings.

    Attributes:
        started: local time.
        settings: the given ones; where a search chose others, those that trained the model.
        metrics: on the whole test split; empty if the run did not reach the gate.
        examples: number of test images; None if there are none yet.
        predicted: folder of the predictions; None if there is none, or it was deleted.
    """

    id: str
    started: datetime
    status: Status | Literal["unfinished"]
    seconds: float | None
    settings: dict[str, Any] | None
    metrics: dict[str, Metric]
    examples: int | None
    version: str | None
    predicted: Path | None

    def predictions(self) -> list[Prediction]:
        """The predictions for all test images, by path; empty if they were deleted."""
        return read_predictions(self.predicted) if self.predicted else []

    def scores(self) -> Scores:
        """The scores of the same images; empty if they were deleted."""
        return read_scores(self.predicted) if self.predicted else Scores([], {})


def record(store: MetadataStore, name: str, settings: Mapping[str, Any], outcome: Outcome) -> None:
    """Adds what the stages do not know to the context of a run of the named pipeline."""
    context = next(c for c in lineage.run_contexts(store, name) if c.name == outcome.run_id)
    context.custom_properties[_SETTINGS].string_value = json.dumps(settings, ensure_ascii=False)
    context.custom_properties[_OUTCOME].string_value = to_json(outcome)
    store.put_contexts([context])


def amend(store: MetadataStore, name: str, run_id: str, change: Callable[[Outcome], None]) -> None:
    """Changes the record of a run of the named pipeline, if its end was recorded."""
    context = next(c for c in lineage.run_contexts(store, name) if c.name == run_id)
    if _OUTCOME in context.custom_properties:
        outcome = from_json(context.custom_properties[_OUTCOME].string_value, Outcome)
        change(outcome)
        context.custom_properties[_OUTCOME].string_value = to_json(outcome)
        store.put_contexts([context])


def all_runs(store: MetadataStore, name: str, last: str | None = None, most: int | None = None) -> list[Run]:
    """Runs of the pipeline `name`, oldest first: the last `most` (None: all) up to the one with the id `last`."""
    return [_run(store, context) for context in contexts_up_to(store, name, last)[-(most or 0) :]]


def contexts_up_to(store: MetadataStore, name: str, last: str | None) -> list[pb.Context]:
    """The contexts of all runs up to and including `last`, oldest first."""
    contexts = lineage.run_contexts(store, name)
    ids = [context.name for context in contexts]
    return contexts[: ids.index(last) + 1] if last in ids else contexts


def find(reference: str, run_dir: Path, name: str, server: MetadataServer | None) -> Run:
    """The run that the user means by an id or its beginning, of the pipeline `name` in `run_dir`, or by a path.

    Its ML Metadata is on the `server`, if there is one.

    The path of a pipeline's folder, or of its `last_run.json`, means that pipeline's last run.

    Raises:
        InputError: there is no such run, or there are several.
    """
    path = Path(reference)
    folder = path.parent if path.name == LAST_RUN.name else path
    if Path(LAST_RUN.path(folder)).is_file():
        last = LAST_RUN.read(folder).run_id
        if not last:
            raise InputError(f"{LAST_RUN.path(folder)} names no run: it failed before its first stage")
        return find(last, folder.resolve(), folder.resolve().name, server_of(folder))
    store = open_store(run_dir, server)
    contexts = [c for c in lineage.run_contexts(store, name) if c.name.startswith(reference)]
    exact = [c for c in contexts if c.name == reference]
    if len(exact or contexts) != 1:
        last = ", ".join(sorted(c.name for c in contexts)[-5:])
        found = f"{len(contexts)} begin so, the last of them {last}" if contexts else "there is none"
        raise InputError(f"no single run {reference!r} in {run_dir} ({found}); `make history` lists them all")
    return _run(store, (exact or contexts)[0])


def _run(store: MetadataStore, context: pb.Context) -> Run:
    nodes = lineage.node_runs(store, context.name)
    recorded = context.custom_properties
    ended = _OUTCOME in recorded
    # What was measured is in the record: the artifacts that it was read from may have been deleted since.
    found = from_json(recorded[_OUTCOME].string_value, Outcome) if ended else from_nodes(nodes, [PUSHED_MODEL.node], "")
    interrupted = found.status == "failed" and not any(node.state == "failed" for node in nodes.values())
    pushed = lineage.output(nodes, PUSHED_MODEL)
    version = pushed_to(pushed.properties) if pushed else None
    predictions = lineage.output(nodes, PREDICTIONS)
    folder = Path(predictions.uri) if predictions else None
    return Run(
        id=context.name,
        started=datetime.fromtimestamp(context.create_time_since_epoch / 1000),
        status="unfinished" if interrupted and not ended else found.status,
        seconds=found.seconds if ended else None,
        settings=_as_trained(json.loads(recorded[_SETTINGS].string_value), found.tuning) if ended else None,
        metrics=found.metrics,
        examples=found.images.test if found.images else None,
        version=Path(version).name if version else None,
        predicted=folder if folder and Path(PREDICTIONS_FILE.path(folder)).is_file() else None,
    )


def _as_trained(settings: dict[str, Any], tuning: Tuning | None) -> dict[str, Any]:
    """The settings of a run, with what its search chose in the place of what it began with."""
    for path, value in tuning.best.items() if tuning else ():
        section, _, name = path.partition(".")
        if name == "learning_rate":
            value = to_dict(from_dict(value if isinstance(value, dict) else {"values": [value]}, LearningRateConfig))
        settings[section] = {**settings.get(section, {}), name: value}
    return settings
