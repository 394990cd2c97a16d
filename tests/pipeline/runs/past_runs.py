"""A pipeline with three runs, for the tests of history and comparison."""

from __future__ import annotations

from pathlib import Path

from core.artifacts.last_run import LAST_RUN
from pipeline.runs import history
from pipeline.runs.lineage import node_runs
from pipeline.runs.metadata import open_store
from pipeline.runs.outcome import from_nodes
from tests.pipeline.report.report_run import NAME, SETTINGS, write_run


def write_past_runs(root: Path) -> Path:
    """A pipeline that pushed, was refused with another setting, and was interrupted after three stages."""
    run_dir = root / NAME
    for status, steps in (("pushed", 1), ("refused", 7)):
        outcome = write_run(run_dir, status)  # type: ignore[arg-type]
        assert outcome.run_id
        store = open_store(run_dir, None)
        outcome.metrics = from_nodes(node_runs(store, outcome.run_id), [], "").metrics
        settings = {**SETTINGS, "training": {**SETTINGS["training"], "steps": steps}}
        history.record(store, NAME, settings, outcome)
        LAST_RUN.write(run_dir, outcome)
    write_run(run_dir, "pushed", stages=3)
    return run_dir
