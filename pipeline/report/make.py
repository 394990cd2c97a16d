"""Makes the report of the run that has just ended, or makes it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core import atomic_io, storage
from core.artifacts.last_run import LAST_RUN, SETTINGS, Outcome
from core.artifacts.pushed_model import MODEL_CARD, version_of
from core.errors import InputError
from pipeline.report.collect import collect, page_path
from pipeline.report.render import model_card, render
from pipeline.runs.push_directory import is_there

_KEPT_PAGES = 50


def make_report(run_dir: Path, name: str, outcome: Outcome, settings: dict[str, Any]) -> Path:
    """Writes the report, and the model card into the folder of this run's version, if it has none.

    That version serves or waits for approval. (After a rollback, `outcome.pushed_model` is another run's model.) The
    page is named after the run, or after its log if the run failed before the first stage; the newest fifty pages in
    `run_dir` are kept.
    """
    data = collect(run_dir, name, outcome, settings)
    path = page_path(run_dir, outcome.run_id or (Path(outcome.log).stem if outcome.log else "run"))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_io.write_text(path, render(data))
    for old in sorted(path.parent.glob("*.html"), key=lambda p: p.stat().st_mtime)[:-_KEPT_PAGES]:
        old.unlink()
    version = data.pushed or outcome.waiting
    if version and is_there(version):
        card = f"{version}/{MODEL_CARD}"
        if not storage.exists(card):  # a run that changed nothing has pushed nothing new
            atomic_io.write_text(card, model_card(data, version_of(version)))
    return path


def remake_report(run_dir: Path, name: str) -> Path:
    """Writes the report of the last run again.

    Raises:
        InputError: no run has ended in that folder.
    """
    if not Path(LAST_RUN.path(run_dir)).is_file():
        raise InputError(
            f"there is no {LAST_RUN.name} in {run_dir}: run the pipeline first, or give its CONFIG and ROOT"
        )
    settings = SETTINGS.read(run_dir).settings if Path(SETTINGS.path(run_dir)).is_file() else {}
    return make_report(run_dir, name, LAST_RUN.read(run_dir), settings)
