"""Earlier runs of a pipeline, as the report lists them: with links to their own reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.facts import PastRun
from pipeline.runs.history import all_runs, contexts_up_to

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore

FOLDER = "reports"
"""Where reports are, in the pipeline's folder."""

_SHOWN = 40


def past_runs(store: MetadataStore, name: str, run_id: str | None, status: str, home: Path) -> list[PastRun]:
    """The last forty runs up to and including `run_id`, oldest first.

    Args:
        store: ML Metadata.
        name: of the pipeline.
        run_id: of the run that the report is about; None: up to the latest.
        status: how that run ended, which is not recorded before it has a report.
        home: the pipeline's folder, in which the reports of earlier runs are.
    """
    found = []
    for run in all_runs(store, name, run_id, _SHOWN):
        current = run.id == run_id
        report = report_name(run.id)
        found.append(
            PastRun(
                id=run.id,
                started=run.started,
                status=status if current else run.status,
                accuracy=run.metrics["accuracy"].overall if "accuracy" in run.metrics else None,
                examples=run.examples,
                version=run.version,
                report=report if not current and (home / FOLDER / report).is_file() else None,
                current=current,
            )
        )
    return found


def earlier_runs(store: MetadataStore, name: str, run_id: str) -> list[str]:
    """Names of the runs before `run_id`, at most forty, oldest first."""
    return [context.name for context in contexts_up_to(store, name, run_id)[:-1]][-_SHOWN:]


def report_name(run_id: str) -> str:
    """File name of a run's report; ML Metadata's names are times with colons."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in run_id) + ".html"
