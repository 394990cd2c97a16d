"""The model card: what a pushed model is for, how good it is and on what, where it fails, and how to make it again.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

import collections
from pathlib import Path

import jinja2

from core.artifacts.verdict import Range
from pipeline.report.confusions import confused_pairs
from pipeline.report.formats import FILTERS, flattened
from pipeline.report.report_data import ReportData
from pipeline.report.verdict_tables import MAIN, sorted_slices

_TEMPLATES = Path(__file__).parent / "page"
_SPECIAL = "\\`*_{}[]<>#|~"


def model_card(report: ReportData) -> str:
    """The card of the model that a run pushed, in Markdown; `report.pushed` must be known."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # for HTML; in Markdown `plain` escapes
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS | {"plain": plain}
    return environment.get_template("model_card.md.j2").render(
        report=report,
        version=Path(str(report.pushed)).name,
        card=report.settings.get("card", {}),
        verdict=report.verdict,
        main=MAIN,
        unknown=Range(None),
        slices=sorted_slices(report.verdict) if report.verdict else [],
        pairs=confused_pairs(report.predictions)[:5],
        labels=collections.Counter(p.label for p in report.predictions),
        settings=flattened(report.settings),
    )


def plain(text: object) -> str:
    """Text without any meaning to Markdown or HTML, on one line: class and file names may hold anything."""
    line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in line).replace("&", "&amp;")
