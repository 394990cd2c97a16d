"""Turns the facts of a run into one HTML page without any outside file; Jinja escapes whatever the data say."""

from __future__ import annotations

import base64
import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from components.slice_result import OVERALL
from pipeline.report import plots
from pipeline.report.facts import Facts
from pipeline.report.measures import (
    Interval,
    calibration,
    confused_pairs,
    confusion,
    f1_by_class,
    wilson,
)

_PAGE = Path(__file__).parent / "page"
_MATRIX_CLASSES = 30
_SHADES = 8
_UNKNOWN = "\N{EN DASH}"


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """A line of the table of metrics; `limit` is the bound of accuracy that the gate applied to it, if any."""

    name: str
    examples: int
    accuracy: Interval | None
    metrics: dict[str, float | None]
    baseline: dict[str, float | None] | None
    before: Interval | None
    limit: float | None
    failed: bool


def render(facts: Facts) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"share": share, "number": number, "whole": whole, "seconds": seconds, "shade": _shade}
    style, script = ((_PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    style, script = style.strip(), script.strip()
    bins, error = calibration(facts.predictions)
    return environment.get_template(
        "report.html.j2"
    ).render(
        facts=facts,
        outcome=facts.outcome,
        style=Markup(style),  # our own files
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        slices=slice_rows(facts),
        metric_names=_metric_names(facts),
        matrix=_matrix(facts),
        pairs=confused_pairs(facts.predictions)[:15],
        by_class=f1_by_class(facts.predictions),
        bins=bins,
        calibration_error=error,
        plots=_plots(facts),
        settings=list(flat(facts.settings)),
        headline=_headline(facts),
        longest_stage=max((s["seconds"] for s in facts.outcome.stages), default=0) or 1,
        largest_class=max((sum(c.splits.values()) for c in facts.data.classes), default=1) if facts.data else 1,
    )


def share(value: float | None) -> str:
    """0.9667 as `96.7 %`."""
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def number(value: Any) -> str:
    """Four significant digits; a dash for what is not known."""
    if value is None:
        return _UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def whole(value: float) -> str:
    """With thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def seconds(value: float) -> str:
    """`3 min 47 s`, `42 s`, `0.2 s`."""
    if value >= 60:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _shade(part: int, of: int) -> int:
    """0 to 8, 0 only for nothing."""
    return 0 if not part else max(1, round(_SHADES * part / max(of, 1)))


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _metric_names(facts: Facts) -> list[str]:
    return [name for name in facts.gate["metrics"] if name != "accuracy"] if facts.gate else []


def slice_rows(facts: Facts) -> list[SliceRow]:
    """The whole split first, then the slices, the worst first."""
    if not facts.gate:
        return []
    failed = {f.get("slice") for f in facts.gate["failures"]}
    bounds = facts.settings.get("evaluation", {})
    overall_limit = (bounds.get("thresholds", {}).get("accuracy") or {}).get("min")
    per_slice = bounds.get("per_slice", {}).get("accuracy") or {}
    count = facts.data.classes and sum(c.splits.get("test", 0) for c in facts.data.classes) if facts.data else 0
    overall = {name: m[OVERALL] for name, m in facts.gate["metrics"].items()}
    before = {name: m["baseline"] for name, m in facts.gate["metrics"].items() if m["baseline"] is not None}
    rows = [_row(OVERALL, count or 0, overall, before or None, overall_limit, OVERALL in failed)]
    judged = [
        _row(
            s["slice"],
            s["examples"],
            _values(s["metrics"]),
            s["baseline"] and _values(s["baseline"]),
            per_slice.get("min") if s["examples"] >= per_slice.get("min_examples", 0) else None,
            s["slice"] in failed,
        )
        for s in facts.gate["slices"]
    ]
    return rows + sorted(judged, key=lambda row: (not row.failed, row.accuracy.value if row.accuracy else 2, row.name))


def _row(
    name: str,
    examples: int,
    metrics: Mapping[str, float | None],
    baseline: Mapping[str, float | None] | None,
    limit: float | None,
    failed: bool,
) -> SliceRow:
    before = baseline.get("accuracy") if baseline else None
    return SliceRow(
        name,
        examples,
        _interval(metrics.get("accuracy"), examples),
        dict(metrics),
        dict(baseline) if baseline else None,
        _interval(before, examples),
        limit,
        failed,
    )


def _values(ranges: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {name: found["value"] for name, found in ranges.items()}


def _interval(accuracy: float | None, examples: int) -> Interval | None:
    return None if accuracy is None or not examples else wilson(round(accuracy * examples), examples)


def _matrix(facts: Facts) -> dict[str, Any] | None:
    """Counts, and the classes they are of: all, or the thirty with the most mistakes."""
    if not facts.predictions:
        return None
    classes = sorted({*facts.classes, *(p.label for p in facts.predictions)})
    if len(classes) > _MATRIX_CLASSES:
        wrong = collections.Counter(n for p in facts.predictions if not p.right for n in (p.label, p.predicted))
        classes = sorted(sorted(classes, key=lambda name: (-wrong[name], name))[:_MATRIX_CLASSES])
    return {"classes": classes, "counts": confusion(facts.predictions, classes)}


def _plots(facts: Facts) -> dict[str, Markup]:
    drawn: dict[str, Markup] = {}
    training = facts.training
    if training and training.summary["evaluations"]:
        best = training.summary["best"]["step"]
        drawn["loss"] = plots.training_loss(training.loss, training.summary["evaluations"], best)
        drawn["accuracy"] = plots.training_accuracy(training.summary["evaluations"], best)
    if training and training.learning_rate:
        drawn["learning_rate"] = plots.learning_rate(training.learning_rate)
    if facts.predictions:
        drawn["reliability"] = plots.reliability(calibration(facts.predictions)[0])
    if sum(run.accuracy is not None for run in facts.history) > 1:
        drawn["history"] = plots.past_accuracy(facts.history)
    return drawn


def flat(settings: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """`training.steps`, `2000`: a line for every setting."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            lines.extend(flat(value, here))
        else:
            lines.append((here, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return lines


def _headline(facts: Facts) -> tuple[str, str]:
    """The verdict in a word, and why in a sentence."""
    outcome = facts.outcome
    broken = [f for f in outcome.failures if f.get("metric")]
    if outcome.status == "pushed":
        return "Pushed", "The model reached every bound and serves; it is in the push directory."
    if outcome.status == "refused":
        if broken:
            bounds = "One bound is broken" if len(broken) == 1 else f"{len(broken)} bounds are broken"
        else:
            bounds = "The model does not serve as it must"
        earlier = any(run.status == "pushed" for run in facts.history)
        return "Refused", f"{bounds}; nothing was pushed" + (
            ", the model pushed before still stands." if earlier else "."
        )
    stage = next((f["stage"] for f in outcome.failures if f.get("stage")), None)
    where = f" in {stage}" if stage else " before the first stage"
    if outcome.exit_code == 2:
        return "Failed", f"The input is unfit: the run stopped{where}; nothing was pushed."
    return "Failed", f"A fault of the pipeline stopped the run{where}; nothing was pushed."
