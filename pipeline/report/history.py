"""Earlier runs of a pipeline, from ML Metadata and what their gates wrote."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.lineage import NodeRun, node_runs, run_contexts
from pipeline.report.facts import PastRun
from pipeline.runs import status_of

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore
    from ml_metadata.proto.metadata_store_pb2 import Context

FOLDER = "reports"
"""Where reports are, in the pipeline's folder."""

_SHOWN = 40


def past_runs(store: MetadataStore, name: str, run_id: str | None, home: Path) -> list[PastRun]:
    """The last forty runs up to and including `run_id`, oldest first.

    Args:
        store: ML Metadata.
        name: of the pipeline.
        run_id: of the run that the report is about; None: up to the latest.
        home: the pipeline's folder, in which the reports of earlier runs are.
    """
    contexts = _contexts(store, name, run_id)[-_SHOWN:]
    return [
        _past_run(node_runs(store, c.name), c.name, c.create_time_since_epoch / 1000, home, c.name == run_id)
        for c in contexts
    ]


def earlier_runs(store: MetadataStore, name: str, run_id: str) -> list[str]:
    """Names of the runs before `run_id`, at most forty, oldest first."""
    return [c.name for c in _contexts(store, name, run_id)[:-1]][-_SHOWN:]


def _contexts(store: MetadataStore, name: str, last: str | None) -> list[Context]:
    """Of all runs up to and including `last`, oldest first."""
    runs = run_contexts(store, name)
    names = [context.name for context in runs]
    return runs[: names.index(last) + 1] if last in names else runs


def report_name(run_id: str) -> str:
    """File name of a run's report; ML Metadata's names are times with colons."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in run_id) + ".html"


def _past_run(nodes: dict[str, NodeRun], run_id: str, seconds: float, home: Path, current: bool) -> PastRun:
    status, version = status_of(nodes)
    accuracy, examples = _measured(nodes)
    report = report_name(run_id)
    return PastRun(
        id=run_id,
        started=datetime.fromtimestamp(seconds),
        status=status,
        accuracy=accuracy,
        examples=examples,
        version=version,
        report=report if not current and (home / FOLDER / report).is_file() else None,
        current=current,
    )


def _measured(nodes: dict[str, NodeRun]) -> tuple[float | None, int | None]:
    """Accuracy and number of test images, as far as they are still on disk."""
    gate, raw = nodes.get("ModelGate"), nodes.get("ImageExampleGen")
    if gate is None or not gate.outputs.get("blessing"):
        return None, None
    path = Path(gate.outputs["blessing"][0].uri) / "gate.json"
    if not path.is_file():  # deleted to save space
        return None, None
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    examples = (
        raw.outputs["examples"][0].properties.get("examples_test") if raw and raw.outputs.get("examples") else None
    )
    return metrics.get("accuracy", {}).get("overall"), int(examples) if examples is not None else None
