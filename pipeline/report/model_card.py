"""The model card: what a pushed model is for, how good it is and on what, where it fails, and how to make it again.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from pathlib import Path

import jinja2

from pipeline.report.facts import Facts
from pipeline.report.measures import confused_pairs
from pipeline.report.render import called, flat, number, share, spread, whole
from pipeline.report.slice_table import overall_metrics, slice_rows

FILE_NAME = "model_card.md"
"""Beside `saved_model.pb`; model servers do not look at it."""

_TEMPLATES = Path(__file__).parent / "page"
_SPECIAL = "\\`*_{}[]<>#|~"


def model_card(facts: Facts) -> str:
    """The card of the model that a run pushed, in Markdown; `facts.pushed` must be known."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # for HTML; in Markdown `plain` escapes
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "called": called,
        "plain": plain,
        "share": share,
        "number": number,
        "spread": spread,
        "whole": whole,
    }
    return environment.get_template("model_card.md.j2").render(
        facts=facts,
        version=Path(str(facts.pushed)).name,
        card=facts.settings.get("card", {}),
        slices=slice_rows(facts),
        pairs=confused_pairs(facts.predictions)[:5],
        overall=overall_metrics(facts),
        settings=flat(facts.settings),
    )


def plain(text: object) -> str:
    """Text without any meaning to Markdown or HTML, on one line: class and file names may hold anything."""
    line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in line).replace("&", "&amp;")
