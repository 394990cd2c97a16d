"""What a run says at its end: what happened, why, and where to look."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core.artifacts.last_run import BAD_INPUT, LAST_RUN, MACHINE_FAILED, Metric, Outcome
from core.checkout import CHECKOUT

_FAILURES = 10  # of those shown here
_CAUSES = {BAD_INPUT: "bad input or settings", MACHINE_FAILED: "the machine, not the data or the model"}
_SHOWN = ("accuracy", "top_3_accuracy", "cross_entropy")  # of the metrics; last_run.json has all


class Line(NamedTuple):
    """A line of the summary; with a `head`, `text` is prose, whose wrapped lines are indented to where it began."""

    text: str
    head: str = ""
    style: str | None = None


def run_summary(outcome: Outcome, run_dir: Path) -> Iterator[Line]:
    """The verdict, the reasons, the metrics, and the paths of report, record and log."""
    if outcome.status == "pushed":
        yield Line(f"pushed: {outcome.pushed_model or 'no longer there, see below'}", style="bold green")
    elif outcome.status == "waiting":
        yield Line(f"waiting for approval: {outcome.waiting}", style="bold yellow")
    elif outcome.status == "finished":
        yield Line("finished: the stages that were asked for; nothing was to be pushed", style="bold green")
    elif outcome.status == "refused":
        yield Line("refused: nothing was pushed", style="bold red")
    else:
        cause = _CAUSES.get(outcome.exit_code, "internal error")
        yield Line(f"failed: {cause}", style="bold red")
    for failure in outcome.failures[:_FAILURES]:
        yield Line(f"{failure.stage}: {failure.message}" if failure.stage else failure.message, head="  ")
    if len(outcome.failures) > _FAILURES:
        yield Line(f"  and {len(outcome.failures) - _FAILURES:,} more, in the report and the details below")
    if outcome.status == "failed" and outcome.pushed_model:
        yield Line(f"  the model in service: {outcome.pushed_model}")
    if outcome.registered_model:
        yield Line(f"  in MLflow: {outcome.registered_model}")
    metrics = {name: m for name, m in outcome.metrics.items() if name in _SHOWN and m.overall is not None}
    if metrics:
        yield Line(" · ".join(_metric(name, m) for name, m in metrics.items()), head="  ")
    if counts := outcome.images:
        left_out = f", {counts.left_out:,} left out" if counts.left_out else ""
        yield Line(
            f"  {counts.read:,} images read, {counts.rejected:,} rejected{left_out}; "
            f"{counts.train:,} train, {counts.eval:,} eval, {counts.test:,} test"
        )
    if outcome.tuning:
        best = " ".join(f"{path}={json.dumps(value)}" for path, value in outcome.tuning.best.items())
        yield Line(f"  best of {outcome.tuning.trials} trials: {best}")  # whole, to be pasted
        yield Line("  to keep these without a search, write them into the settings, or give them as SET")
    for note in outcome.notes:
        yield Line(note, head="  note: ", style="yellow")
    if outcome.status == "pushed" and outcome.pushed_model:
        yield _try_it(outcome.pushed_model)
    if outcome.status == "waiting" and outcome.waiting:
        yield _try_it(outcome.waiting)
        chosen = f'VERSION={Path(outcome.waiting).name} WHY="…"'
        yield Line(f"  decide: {_make()} approve {chosen} (or reject), with this run's CONFIG, ROOT and SET")
    memory = f" · peak memory {outcome.peak_rss_mb:,} MB" if outcome.peak_rss_mb else ""
    freed = f" · deleted {outcome.freed_mb:,.0f} MB of old runs" if outcome.freed_mb >= 1 else ""
    yield Line(f"  {outcome.seconds:.0f} s{memory}{freed}")
    for name, path in (("report", outcome.report), ("details", LAST_RUN.path(run_dir)), ("log", outcome.log)):
        if path:
            yield Line(f"  {name + ':':8} {path}")


def _try_it(version: str) -> Line:
    return Line(f'  try it: {_make()} predict {shlex.quote(f"MODEL={version}")} IMAGES="one.jpg two.png"')


def _make() -> str:
    return "make" if Path.cwd() == CHECKOUT else f"make -C {shlex.quote(str(CHECKOUT))}"


def _metric(name: str, metric: Metric) -> str:
    baseline = "" if metric.baseline is None else f" (last blessed {metric.baseline:.4f})"
    return f"{name} {metric.overall:.4f}{baseline}"
