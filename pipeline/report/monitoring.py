"""The page of `make monitor`, which compares production with the test split and needs no external files."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from core.artifacts.monitoring import Monitored
from core.settings.converter import to_dict
from pipeline.report.listing import listing
from pipeline.report.render import csp_hash, page_file, template


class Shown(NamedTuple):
    """An image to label, with the data URI of its thumbnail, why it was chosen, and its prediction."""

    thumbnail: str
    path: str
    why: str
    predicted: str
    probability: float


def render(found: Monitored, images: str, to_label: list[Shown]) -> str:
    """The page; Jinja escapes all data."""
    style, script = (page_file(name) for name in ("report.css", "report.js"))
    return template("monitoring.html.j2", autoescape=True).render(
        found=found,
        images=images,
        to_label=to_label,
        style=Markup(style),  # our own files
        script=Markup(script),
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        findings=listing(found.findings, to_dict),
        classes=listing(found.classes, to_dict),
    )
