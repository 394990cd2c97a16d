"""The report's plots, drawn by matplotlib and recolored with CSS variables, so that they follow the page's theme."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from io import StringIO

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from components.evaluation.intervals import wilson
from core.artifacts.training_summary import Evaluation
from pipeline.report.collect import MAIN, StepValue
from pipeline.report.coverage import Coverage
from pipeline.report.reliability import ReliabilityBin
from pipeline.runs.history import Run

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

# Stand-ins that matplotlib draws with -> the page's CSS variables.
INK, MUTED, GRID, FIRST, SECOND, GOOD, BAD = (f"#0000{i:02x}" for i in range(1, 8))
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", FIRST: "first", SECOND: "second", GOOD: "good", BAD: "bad"}
_STATUS = {
    "pushed": (GOOD, "o"),
    "refused": (BAD, "X"),
    "failed": (MUTED, "s"),
    "unfinished": (MUTED, "D"),
    "finished": (GOOD, "D"),
    "waiting": (MUTED, "o"),
}

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}
_SIZE = (4.9, 2.7)  # inches of 72 units: about the width of a phone, so that text is never shrunk there
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def training_loss(train: Sequence[StepValue], evaluations: Sequence[Evaluation], best: int) -> Markup:
    """Loss of batches and of the eval split by step; a line marks the step that was kept."""
    losses = [StepValue(e.step, e.loss) for e in evaluations if e.loss is not None]
    values = [point.value for point in (*train, *losses)]

    def draw(axes: Axes) -> None:
        if train:
            axes.plot([p.step for p in train], [p.value for p in train], color=SECOND, alpha=0.75, lw=1, label="train")
        axes.plot([p.step for p in losses], [p.value for p in losses], "o-", color=FIRST, label="eval")
        if values and min(values) > 0 and max(values) > 20 * min(values):
            _logarithmic(axes)
        _mark_best(axes, best)
        axes.legend()

    return _plot("training-loss", "Loss", "Loss of the train and eval splits by training step.", draw)


def training_accuracy(evaluations: Sequence[Evaluation], best: int) -> Markup:
    """Accuracy on the eval split by step; there is at least one evaluation."""

    def draw(axes: Axes) -> None:
        axes.plot([e.step for e in evaluations], [e.accuracy for e in evaluations], "o-", color=FIRST)
        _mark_best(axes, best)

    words = f"Accuracy on the eval split by training step; {evaluations[-1].accuracy:.3f} at the end."
    return _plot("training-accuracy", "Accuracy on eval", words, draw)


def learning_rate(values: Sequence[StepValue]) -> Markup:
    """The learning rate by step, on a logarithmic scale where it is positive."""

    def draw(axes: Axes) -> None:
        axes.step([p.step for p in values], [p.value for p in values], where="post", color=FIRST)
        axes.set_xlabel("step")
        if min(p.value for p in values) > 0:
            _logarithmic(axes)
            low, high = min(p.value for p in values), max(p.value for p in values)
            axes.set_ylim(low / 3, high * 3)

    words = f"Learning rate by step, from {values[0].value:g} to {values[-1].value:g}."
    return _plot("learning-rate", "Learning rate", words, draw)


def reliability(bins: Sequence[ReliabilityBin]) -> Markup:
    """Accuracy against confidence, with intervals; calibrated probabilities lie on the diagonal."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], "--", color=MUTED, lw=1)
        x = [b.confidence for b in bins]
        y = [b.accuracy.value for b in bins]
        errors = [[b.accuracy.value - b.accuracy.low for b in bins], [b.accuracy.high - b.accuracy.value for b in bins]]
        axes.errorbar(x, y, errors, fmt="o", color=FIRST, ecolor=FIRST, elinewidth=1.2, capsize=2.5, alpha=0.95)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel("probability of the predicted class")

    words = "Reliability diagram: fraction of correct predictions against the predicted probability, as in the table."
    return _plot("reliability", "Fraction correct", words, draw, (4.9, 3.4))


def coverage(found: Coverage) -> Markup:
    """Accuracy of the surest images by their fraction, with intervals, and the labels that the model gives."""

    def draw(axes: Axes) -> None:
        x = [point.coverage for point in found.curve]
        axes.fill_between(
            x,
            [p.accuracy.low for p in found.curve],
            [p.accuracy.high for p in found.curve],
            color=FIRST,
            alpha=0.2,
            lw=0,
        )
        axes.plot(x, [p.accuracy.value for p in found.curve], color=FIRST)
        if found.chosen:
            accuracy = found.chosen.accuracy
            errors = [[accuracy.value - accuracy.low], [accuracy.high - accuracy.value]]
            axes.errorbar(
                [found.chosen.coverage],
                [accuracy.value],
                errors,
                fmt="o",
                color=GOOD,
                capsize=2.5,
                label="labels given",
            )
            axes.legend(loc="lower left")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(top=1.02)
        axes.set_xlabel("fraction of images with a label")

    words = "Fraction of correct labels against the fraction of test images that get one, as in the table."
    return _plot("coverage", "Fraction correct", words, draw, (4.9, 3.4))


def past_accuracy(runs: Sequence[Run]) -> Markup:
    """Accuracy on the test split by run, with intervals; color and shape show how the run ended."""
    measured = [
        (place, run.status, wilson(round(accuracy * run.examples), run.examples))
        for place, run in enumerate(runs, 1)
        if run.examples and MAIN in run.metrics and (accuracy := run.metrics[MAIN].overall) is not None
    ]

    def draw(axes: Axes) -> None:
        axes.plot([place for place, _, _ in measured], [found.value for _, _, found in measured], color=GRID, lw=1.2)
        for status, (color, marker) in _STATUS.items():
            places = [place for place, ended, _ in measured if ended == status]
            if places:
                found = [found for _, ended, found in measured if ended == status]
                errors = [[f.value - f.low for f in found], [f.high - f.value for f in found]]
                y = [f.value for f in found]
                axes.errorbar(places, y, errors, fmt=marker, color=color, elinewidth=1, markersize=6, label=status)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlim(0.5, len(runs) + 0.5)
        axes.set_xlabel("run")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.42), ncols=3)

    words = f"Accuracy on the test split over the last {len(runs)} runs; the table below has the numbers."
    return _plot("history", "Accuracy on the test split", words, draw)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the default one needs mathtext
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark_best(axes: Axes, step: int) -> None:
    axes.axvline(step, color=GOOD, lw=1.2, ls=":")
    axes.text(step, 1.0, "kept ", transform=axes.get_xaxis_transform(), color=GOOD, ha="right", va="top", fontsize=9)
    axes.set_xlabel("step")


def _plot(name: str, title: str, words: str, draw: Callable[[Axes], None], size: tuple[float, float] = _SIZE) -> Markup:
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title)
        target = StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(target.getvalue(), words)


def _themed(svg: str, words: str) -> Markup:
    """Makes matplotlib's SVG part of a page: no styles (a strict CSP forbids them), the page's colors, and alt text."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(_NOT_XML.sub("\ufffd", svg[svg.index("<svg") :]))
    referenced = set(re.findall(r"#([\w-]+)", svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        for declaration in filter(None, (d.strip() for d in element.attrib.pop("style", "").split(";"))):
            key, _, value = (part.strip() for part in declaration.partition(":"))
            if key == "font":
                element.set("font-size", value.split("'")[0].split()[-1])
                if "bold" in value or "700" in value:
                    element.set("font-weight", "600")
            else:
                element.set(key, value)
        for key in ("fill", "stroke"):
            if element.get(key, "").lower() in _VARIABLES:
                element.set(key, f"var(--{_VARIABLES[element.attrib[key].lower()]})")
        if element.get("id") and element.get("id") not in referenced:
            del element.attrib["id"]
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-label": words, "class": "plot", "stroke-linejoin": "round"})
    return Markup(ET.tostring(root, encoding="unicode"))  # ElementTree has escaped all text
