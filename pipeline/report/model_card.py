"""The model card: what a pushed model is for, how good it is and on what, where it fails, and how to make it again.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

import collections
from pathlib import Path

from core.artifacts.verdict import Range
from pipeline.report.confusions import confused_pairs
from pipeline.report.formats import flattened
from pipeline.report.render import sorted_slices, template
from pipeline.report.report_data import MAIN, ReportData


def model_card(report: ReportData) -> str:
    """The card of the model that a run pushed, in Markdown; `report.pushed` must be known."""
    card = template("model_card.md.j2", autoescape=False)  # in Markdown `plain` escapes
    return card.render(
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
