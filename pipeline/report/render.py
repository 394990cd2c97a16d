"""Turns the data of a report into one HTML page without any outside file; Jinja escapes whatever the data say."""

from __future__ import annotations

import base64
import collections
import hashlib
from pathlib import Path

import jinja2
from markupsafe import Markup

from core.artifacts.last_run import BAD_INPUT
from core.artifacts.verdict import Range
from core.metrics import LOWER_IS_BETTER
from pipeline.report import graph, plots, verdict_tables
from pipeline.report.confusions import confused_pairs, confusion_matrix, mistakes_first
from pipeline.report.formats import FILTERS, flattened
from pipeline.report.reliability import Reliability, reliability
from pipeline.report.report_data import ReportData

_PAGE = Path(__file__).parent / "page"
_SHOWN_PAIRS = 15


def render(report: ReportData) -> str:
    """The page."""
    style, script = ((_PAGE / name).read_text(encoding="utf-8").strip() for name in ("report.css", "report.js"))
    verdict, data = report.verdict, report.data
    trusted = reliability(report.predictions)
    page = template("report.html.j2", autoescape=True)
    return page.render(
        report=report,
        outcome=report.outcome,
        headline=_headline(report),
        style=Markup(style),  # our own files
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        verdict=verdict,
        slices=verdict_tables.sorted_slices(verdict) if verdict else [],
        bounds=verdict_tables.sorted_bounds(verdict) if verdict else [],
        failed=verdict_tables.failed_slices(verdict) if verdict else (),
        lowest=verdict_tables.accuracy_limits(verdict) if verdict else {},
        setting_of=verdict_tables.setting_of,
        mistakes_first=mistakes_first,
        lower_is_better=LOWER_IS_BETTER,
        main=verdict_tables.MAIN,
        unknown=Range(None),
        matrix=confusion_matrix(report.predictions, report.classes) if report.predictions else None,
        pairs=confused_pairs(report.predictions)[:_SHOWN_PAIRS],
        labels=collections.Counter(p.label for p in report.predictions),
        reliability=trusted,
        plots=_plots(report, trusted),
        graph=graph.layout(report.lineage) if report.lineage else None,
        settings=flattened(report.settings),
        longest_stage=max((stage.seconds for stage in report.outcome.stages), default=0) or 1,
        largest_class=max((sum(c.splits.values()) for c in data.counts.classes.values()), default=1) if data else 1,
    )


def template(name: str, autoescape: bool) -> jinja2.Template:
    """A template of the folder `page`, which may use the filters of `formats`; `autoescape` is for HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS
    return environment.get_template(name)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _plots(report: ReportData, trusted: Reliability | None) -> dict[str, Markup]:
    drawn: dict[str, Markup] = {}
    training = report.training
    if training and training.summary.evaluations:
        best = training.summary.best.step
        drawn["loss"] = plots.training_loss(training.loss, training.summary.evaluations, best)
        drawn["accuracy"] = plots.training_accuracy(training.summary.evaluations, best)
    if training and training.learning_rate:
        drawn["learning_rate"] = plots.learning_rate(training.learning_rate)
    if trusted:
        drawn["reliability"] = plots.reliability(trusted.bins)
    if sum(verdict_tables.MAIN in run.metrics for run in report.history) > 1:
        drawn["history"] = plots.past_accuracy(report.history)
    return drawn


def _headline(report: ReportData) -> tuple[str, str]:
    """The verdict in a word, and why in a sentence."""
    outcome = report.outcome
    if outcome.status == "pushed":
        return "Pushed", f"{_kept(report)} The model passed the serving check and is in the push directory."
    if outcome.status == "refused":
        broken = sum(failure.metric is not None for failure in outcome.failures)
        reason = {0: "The model failed the serving check", 1: "One bound is broken"}.get(
            broken, f"{broken} bounds are broken"
        )
        pushed = any(run.status == "pushed" for run in report.history)
        return "Refused", f"{reason}. Nothing was pushed" + ("; the earlier model stays in service." if pushed else ".")
    stage = next((failure.stage for failure in outcome.failures if failure.stage), None)
    cause = "Bad input or settings" if outcome.exit_code == BAD_INPUT else "An internal error"
    return (
        "Failed",
        f"{cause} stopped the run {f'in {stage}' if stage else 'before the first stage'}. Nothing was pushed.",
    )


def _kept(report: ReportData) -> str:
    judged = report.verdict.judged if report.verdict else []
    doubts = sum(bound.state == "doubt" for bound in judged)
    if not judged:
        return "No bounds were set on the model's quality."
    if doubts:
        return f"{len(judged) - doubts} of {len(judged)} bounds certainly hold, and none is broken."
    return "The one bound holds." if len(judged) == 1 else f"All {len(judged)} bounds hold."
