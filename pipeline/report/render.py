"""Renders the data of a report as a self-contained HTML page, and as the model card."""

from __future__ import annotations

import base64
import collections
import hashlib
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from core.artifacts.ingest_record import ClassCounts, IngestCounts
from core.artifacts.last_run import BAD_INPUT
from core.artifacts.verdict import OVERALL, ClassMetrics, JudgedBound, Range, SliceMetrics, Verdict
from core.metrics import LOWER_IS_BETTER
from core.settings.converter import to_dict
from pipeline.report import graph, plots
from pipeline.report.collect import ANALYZED, MAIN, ReportData
from pipeline.report.confusions import confused_pairs, confusion_matrix, mistakes_first
from pipeline.report.coverage import Coverage, coverage
from pipeline.report.formats import FILTERS, flattened
from pipeline.report.listing import ROWS, listing
from pipeline.report.reliability import Reliability, reliability

_PAGE = Path(__file__).parent / "page"
_SHOWN_PAIRS = 15
_CARD_ROWS = 30  # of the model card's tables, and classes that it names
_STATES = ("broken", "doubt", "kept")  # of bounds, in the order in which they are shown


def render(report: ReportData) -> str:
    """The page; Jinja escapes whatever the data say."""
    style, script = (page_file(name) for name in ("report.css", "report.js"))
    verdict, data = report.verdict, report.data
    trusted, covered = reliability(report.predictions), coverage(report.predictions)
    page = template("report.html.j2", autoescape=True)
    return page.render(
        report=report,
        outcome=report.outcome,
        headline=_headline(report),
        style=Markup(style),  # our own files
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        verdict=verdict,
        **(_lists(verdict) if verdict else {}),
        class_counts=listing(
            _class_counts(data.counts) if data else [], lambda pair: {"class": pair[0], **to_dict(pair[1])}
        ),
        suspects=listing(report.labels.suspects if report.labels else [], to_dict),
        regressions=listing(verdict.regressions.wrong if verdict and verdict.regressions else [], to_dict),
        rows=ROWS,
        analyzed=ANALYZED,
        mistakes_first=mistakes_first,
        lower_is_better=LOWER_IS_BETTER,
        main=MAIN,
        unknown=Range(None),
        matrix=confusion_matrix(report.predictions, report.classes) if report.predictions else None,
        pairs=confused_pairs(report.predictions),
        shown_pairs=_SHOWN_PAIRS,
        labels=collections.Counter(p.label for p in report.predictions),
        reliability=trusted,
        coverage=covered,
        plots=_plots(report, trusted, covered),
        graph=graph.layout(report.lineage) if report.lineage else None,
        settings=flattened(report.settings),
        longest_stage=max((stage.seconds for stage in report.outcome.stages), default=0) or 1,
        largest_class=max((sum(of.splits.values()) for of in data.counts.classes.values()), default=0) or 1
        if data
        else 1,
    )


def model_card(report: ReportData, version: str) -> str:
    """The card of a run's model, pushed as that version, in Markdown, after Mitchell et al., Model Cards (2019).

    It says what the model is for, how good it is and on what, where it fails, and how to reproduce it.
    """
    card = template("model_card.md.j2", autoescape=False)  # in Markdown `plain` escapes
    return card.render(
        report=report,
        version=version,
        card=report.settings.get("card", {}),
        verdict=report.verdict,
        main=MAIN,
        unknown=Range(None),
        slices=_sorted_slices(report.verdict) if report.verdict else [],
        class_counts=_class_counts(report.data.counts) if report.data else [],
        shown=_CARD_ROWS,
        pairs=confused_pairs(report.predictions)[:5],
        labels=collections.Counter(p.label for p in report.predictions),
        settings=flattened(report.settings),
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


def _lists(verdict: Verdict) -> dict[str, Any]:
    """The listings of the metrics tables, each with the most important rows first."""
    slices, failed = _sorted_slices(verdict), _failed_slices(verdict)
    return {
        "slices": listing(slices, lambda one: {"slice": one.slice, "images": one.examples, **to_dict(one.metrics)}),
        "bounds": listing(sorted(verdict.judged, key=_bound_order), to_dict),
        "class_metrics": listing(sorted(verdict.overall.classes, key=_class_order), to_dict),
        "failed": failed,
        "detailed": [one for one in slices[1 : ANALYZED + 1] if one.slice in failed],
        "lowest": {j.slice: j.bound for j in verdict.judged if j.metric == MAIN and j.setting.endswith(".min")},
    }


def _class_counts(counts: IngestCounts) -> list[tuple[str, ClassCounts]]:
    """Classes by name; if there are many, those with the most rejects first, then those with the fewest images."""
    if len(counts.classes) <= ROWS:
        return list(counts.classes.items())
    return sorted(
        counts.classes.items(),
        key=lambda pair: (-pair[1].rejected - pair[1].left_out, sum(pair[1].splits.values()), pair[0]),
    )


def _class_order(one: ClassMetrics) -> tuple[float, int, str]:
    """Sort key: the worst first, then the surest, with the most images; unknown ones last."""
    return math.inf if one.f1.value is None else one.f1.value, -one.examples, one.class_name


def _sorted_slices(verdict: Verdict) -> list[SliceMetrics]:
    """The whole split, then the slices: those of failures first, then the least accurate, the largest first."""
    failed = _failed_slices(verdict)

    def place(measured: SliceMetrics) -> tuple[bool, float, int, str]:
        accuracy = measured.metrics[MAIN].value if MAIN in measured.metrics else None
        least = math.inf if accuracy is None else accuracy
        return measured.slice not in failed, least, -measured.examples, measured.slice

    return [verdict.overall, *sorted(verdict.slices, key=place)]


def _failed_slices(verdict: Verdict) -> set[str]:
    return {failure.slice for failure in verdict.failures}


def _bound_order(judged: JudgedBound) -> tuple[int, bool, float]:
    return _STATES.index(judged.state), judged.slice != OVERALL, judged.p


def page_file(name: str) -> str:
    """A style or script of the folder `page`."""
    return (_PAGE / name).read_text(encoding="utf-8").strip()


def csp_hash(text: str) -> str:
    """The hash by which a page's Content-Security-Policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _plots(report: ReportData, trusted: Reliability | None, covered: Coverage | None) -> dict[str, Markup]:
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
    if covered:
        drawn["coverage"] = plots.coverage(covered)
    if sum(MAIN in run.metrics for run in report.history) > 1:
        drawn["history"] = plots.past_accuracy(report.history)
    return drawn


def _headline(report: ReportData) -> tuple[str, str]:
    """The verdict in a word, and why in a sentence."""
    outcome = report.outcome
    if outcome.status == "pushed":
        return "Pushed", f"{_kept(report)} The model passed the serving check and is in the push directory."
    if outcome.status == "waiting":
        return (
            "Waiting",
            f"{_kept(report)} The model passed the serving check. Nothing is pushed before it is approved.",
        )
    if outcome.approval and outcome.status == "refused":
        return "Rejected", f"The model passed the gate, and was {outcome.approval}. Nothing was pushed."
    if outcome.status == "refused":
        broken = sum(failure.metric is not None for failure in outcome.failures)
        verdict = report.verdict
        otherwise = "The model failed the serving check"
        if verdict and verdict.regressions and verdict.regressions.message:
            otherwise = "Past failures are wrong again"
        elif verdict and verdict.abstention:
            otherwise = "Its labels do not show the precision that is wanted"
        reasons = {0: otherwise, 1: "One bound is broken"}
        reason = reasons.get(broken, f"{broken} bounds are broken")
        pushed = any(run.status == "pushed" for run in report.history)
        return "Refused", f"{reason}. Nothing was pushed" + ("; the earlier model stays in service." if pushed else ".")
    if outcome.status == "finished":
        return "Finished", "The stages that were asked for ended well. Nothing was to be pushed."
    stage = next((failure.stage for failure in outcome.failures if failure.stage), None)
    where = f"in {stage}" if stage else "before the first stage"
    cause = "Bad input or settings" if outcome.exit_code == BAD_INPUT else "An internal error"
    return "Failed", f"{cause} stopped the run {where}. Nothing was pushed."


def _kept(report: ReportData) -> str:
    if not report.verdict:
        return "What the gate judged cannot be read."
    judged = report.verdict.judged
    doubts = sum(bound.state == "doubt" for bound in judged)
    if not judged:
        return "No bounds were set on the model's quality."
    if doubts:
        return f"{len(judged) - doubts} of {len(judged)} bounds certainly hold, and none is broken."
    return "The one bound holds." if len(judged) == 1 else f"All {len(judged)} bounds hold."
