"""Makes the report of the run that has just ended, or makes it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from core import atomic_io
from core.errors import InputError
from pipeline.report import model_card, past_runs
from pipeline.report.collect import collect
from pipeline.report.render import render
from pipeline.runs.outcome import RECORD_FILE, SETTINGS_FILE, Outcome

_KEPT = 50


def make_report(home: Path, name: str, outcome: Outcome, settings: dict[str, Any]) -> Path:
    """Writes the report, and the model card into the folder of the version with this run's model if it has none.

    (After a rollback, `outcome.pushed_model` is a version with another run's model.)

    Args:
        home: the pipeline's folder; the page goes to `reports/` in it, of which the newest fifty are kept.
        name: of the pipeline.
        outcome: how the latest run ended.
        settings: that it ran with, as plain values; kept beside `last_run.json`, to make the report again.

    Returns:
        The page's path: named by the run, or by its log if it failed before the first stage.
    """
    atomic_io.write_text(home / SETTINGS_FILE, json.dumps(settings, indent=1, ensure_ascii=False))
    facts = collect(home, name, outcome, settings)
    stem = facts.run_id or (Path(outcome.log).stem if outcome.log else "run")
    path = home / past_runs.FOLDER / past_runs.report_name(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_io.write_text(path, render(facts))
    for old in sorted(path.parent.glob("*.html"), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
        old.unlink()
    if facts.pushed and Path(facts.pushed).is_dir():
        card = Path(facts.pushed) / model_card.FILE_NAME
        if not card.exists():  # a run that changed nothing has pushed nothing new
            atomic_io.write_text(card, model_card.model_card(facts))
    return path


def remake_report(home: Path, name: str) -> Path:
    """Writes the report of the last run again.

    Raises:
        InputError: no run has ended in that folder.
    """
    if not (home / RECORD_FILE).is_file():
        raise InputError(f"there is no {RECORD_FILE} in {home}: run the pipeline first, or give its CONFIG and ROOT")
    values = json.loads((home / RECORD_FILE).read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(Outcome)}
    outcome = Outcome(**{key: value for key, value in values.items() if key in known})
    kept = home / SETTINGS_FILE
    settings = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    return make_report(home, name, outcome, settings)
