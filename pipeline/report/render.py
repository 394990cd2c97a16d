"""Turns the facts of a run into one HTML page without any outside file; Jinja escapes whatever the data say."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.report import graph, plots
from pipeline.report.facts import Facts
from pipeline.report.measures import calibration, confused_pairs, confusion
from pipeline.report.slice_table import (
    Range,
    class_rows,
    classes_of_broken,
    demands,
    overall_metrics,
    setting_of,
    slice_rows,
)

_PAGE = Path(__file__).parent / "page"
_MATRIX_CLASSES = 30
_CROWDED = 8
_SHADES = 8
_UNKNOWN = "\N{EN DASH}"


def render(facts: Facts) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "share": share,
        "number": number,
        "metric": metric,
        "points": points,
        "signed": signed,
        "spread": spread,
        "whole": whole,
        "seconds": seconds,
        "shade": _shade,
        "called": called,
        "setting": lambda failure: setting_of(failure["metric"], failure["kind"]),
    }
    style, script = ((_PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    style, script = style.strip(), script.strip()
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
        overall=overall_metrics(facts),
        by_class=class_rows(facts),
        broken_slices=classes_of_broken(facts),
        demands=demands(facts),
        matrix=_matrix(facts),
        pairs=confused_pairs(facts.predictions)[:15],
        calibration=calibration(facts.predictions),
        plots=_plots(facts),
        artifact_ids={made.id for step in facts.lineage for made in step.made},
        graph=graph.layout(facts.lineage) if facts.lineage else None,
        settings=list(flat(facts.settings)),
        headline=_headline(facts),
        longest_stage=max((s["seconds"] for s in facts.outcome.stages), default=0) or 1,
        largest_class=max((sum(c.splits.values()) for c in facts.data.classes), default=1) if facts.data else 1,
    )


def called(predicted: str) -> str:
    """The class, or in words that the model could not read the image."""
    return predicted or "nothing (the model could not read it)"


def share(value: float | None) -> str:
    """0.9667 as `96.7 %`."""
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """A change of a share: a fraction in percentage points, with its sign."""
    return _UNKNOWN if value is None else f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """Three decimals with a sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def number(value: Any) -> str:
    """Four significant digits; a dash for what is not known."""
    if value is None:
        return _UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def metric(value: float | None) -> str:
    """Three decimals, so that a column can be read down."""
    return _UNKNOWN if value is None else f"{value:.3f}"


def spread(found: Range, scale: int = 100) -> str:
    """The limits without the value: `84.1 to 95.0`; nothing where none are known."""
    if found.low is None or found.high is None:
        return ""
    digits = 1 if scale == 100 else 3
    texts = (f"{scale * limit:.{digits}f}".replace("-", "\N{MINUS SIGN}") for limit in (found.low, found.high))
    return " to ".join(texts)


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


def _matrix(facts: Facts) -> dict[str, Any] | None:
    """Counts, and the classes they are of: all, or the thirty with the most mistakes."""
    if not facts.predictions:
        return None
    classes = sorted({*facts.classes, *(p.label for p in facts.predictions)})
    of = len(classes)
    if of > _MATRIX_CLASSES:
        wrong = collections.Counter(n for p in facts.predictions if not p.right for n in (p.label, p.predicted))
        classes = sorted(sorted(classes, key=lambda name: (-wrong[name], name))[:_MATRIX_CLASSES])
    totals = collections.Counter(p.label for p in facts.predictions)
    return {
        "classes": classes,
        "counts": confusion(facts.predictions, classes),
        "totals": [totals[name] for name in classes],
        "of": of,
        "crowded": len(classes) > _CROWDED,
    }


def _plots(facts: Facts) -> dict[str, Markup]:
    drawn: dict[str, Markup] = {}
    training = facts.training
    if training and training.summary["evaluations"]:
        best = training.summary["best"]["step"]
        drawn["loss"] = plots.training_loss(training.loss, training.summary["evaluations"], best)
        drawn["accuracy"] = plots.training_accuracy(training.summary["evaluations"], best)
    if training and training.learning_rate:
        drawn["learning_rate"] = plots.learning_rate(training.learning_rate)
    if found := calibration(facts.predictions):
        drawn["reliability"] = plots.reliability(found.bins)
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
        return "Pushed", f"{_kept(facts)} The model serves as it must, and is in the push directory."
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


def _kept(facts: Facts) -> str:
    judged = facts.gate["judged"] if facts.gate else []
    doubts = sum(one["state"] == "doubt" for one in judged)
    if not judged:
        return "Nothing was demanded of the model's quality."
    sure = (
        f"{len(judged) - doubts} of {len(judged)} bounds are surely kept"
        if doubts
        else f"All {len(judged)} bounds are kept"
    )
    return (
        f"{sure if len(judged) > 1 or doubts else 'The one bound is kept'}{', and none is broken.' if doubts else '.'}"
    )
