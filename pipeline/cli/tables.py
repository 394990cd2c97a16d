"""Tables for the terminal: the history of a pipeline, and two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import rich.console
from rich.markup import escape
from rich.table import Table

from core.artifacts.monitoring import Monitored
from core.artifacts.verdict import Range
from pipeline.runs.comparison import Change, Comparison, plain
from pipeline.runs.history import Run

SHOWN = ("accuracy", "cross_entropy", "macro_f1", "top_3_accuracy")
"""Metrics of the history, as many of the first as the terminal has room for; `--json` has all."""

_SLICES = 20  # that are printed of a comparison, the surest first

_COLORS = {
    "pushed": "green",
    "refused": "red",
    "failed": "red",
    "unfinished": "yellow",
    "waiting": "yellow",
    "finished": "green",
}


def print_history(console: rich.console.Console, runs: Sequence[Run]) -> None:
    """Prints one line per run, oldest first; ids, which `compare` takes, are never truncated."""
    without_bound = console.options.update(width=1000)
    tables = [_history(runs, SHOWN[:count]) for count in range(len(SHOWN), -1, -1)]
    fitting = (table for table in tables if console.measure(table, options=without_bound).maximum <= console.width)
    console.print(next(fitting, tables[-1]))


def _history(runs: Sequence[Run], metrics: Sequence[str]) -> Table:
    table = _table("run", "verdict", *metrics, "version", "time")
    for column in table.columns:
        column.justify, column.no_wrap = "right" if column.header in (*metrics, "time") else "left", True
    for run in runs:
        values = [run.metrics[name].overall if name in run.metrics else None for name in metrics]
        table.add_row(
            escape(run.id),
            f"[{_COLORS[run.status]}]{run.status}[/]",
            *("" if value is None else f"{value:.4f}" for value in values),
            run.version or "",
            "" if run.seconds is None else f"{run.seconds:.0f} s",
        )
    return table


def print_monitored(console: rich.console.Console, found: Monitored, page: str) -> None:
    """Prints how production compares with the test split: the verdict, its basis, and where to read more."""
    broken = len(found.broken)
    said = f"[red]beyond bounds: {broken} broken[/]" if broken else "[green]within bounds[/], as far as these can tell"
    age = "" if found.age_days is None else f"; the model is {found.age_days:g} days old"
    since = "" if found.since_push is None else f", {found.since_push:,} since it was pushed"
    console.print(f"{found.images:,} images{since}, {found.unreadable:,} cannot be read{age}: {said}")
    for title, value in (("expected accuracy", found.expected_accuracy), ("on the test split", found.test_accuracy)):
        console.print(f"  {title}: {_percent(value)}")
    if found.measured:
        console.print(f"  measured on {found.measured.used:,} labels: {_percent(found.measured.accuracy)}")
    for one in found.broken[:_SLICES]:
        moved = f"{_percent(one.before)} on the test split, {_percent(one.now)} now"
        console.print(f"  {escape(one.name)}: {moved}; monitoring.{one.kind} is {one.bound:g}")
    for note in [*found.notes, *(found.measured.notes if found.measured else [])]:
        console.print(f"  note: {escape(note)}", style="yellow")
    console.print(f"  page: {escape(page)}", soft_wrap=True)


def _percent(found: Range) -> str:
    if found.value is None:
        return "not known"
    known = found.low is not None and found.high is not None and found.low < found.high
    limits = f" ({100 * found.low:.1f} to {100 * found.high:.1f})" if known else ""  # type: ignore[operator]
    return f"{100 * found.value:.1f}%{limits}"


def print_comparison(console: rich.console.Console, comparison: Comparison) -> None:
    """Prints the settings, metrics and slices that differ."""
    console.print(f"A  {escape(comparison.a)}\nB  {escape(comparison.b)}\n")
    if comparison.settings is None:
        console.print("one of them did not end, so its settings were not recorded\n", style="yellow")
    elif not comparison.settings:
        console.print("the settings are the same\n")
    else:
        settings = _table("setting", "A", "B")
        for name, values in comparison.settings.items():
            settings.add_row(escape(name), *(escape(plain(value)) for value in values))
        console.print(settings, "")
    if not comparison.metrics:
        console.print("they have no metrics in common: one of them did not reach the gate", style="yellow")
        return
    metrics = _table("metric", "A", "B", "B - A", "95 % of B - A", "by more than chance")
    for change in comparison.metrics:
        metrics.add_row(
            change.metric, f"{change.a:.4f}", f"{change.b:.4f}", f"{change.b - change.a:+.4f}", *_sure(change)
        )
    console.print(metrics)
    images = "the same test images, compared one by one" if comparison.same_images else "other test images"
    console.print(f"measured on {images}; every metric by itself\n", style="dim")
    for one in comparison.slices[:_SLICES]:
        console.print(
            f"slice {escape(one.slice)} ({one.examples} images): accuracy {one.a:.4f} → {one.b:.4f}, "
            f"p = {one.p:.1g} corrected for all slices"
        )
    if len(comparison.slices) > _SLICES:
        console.print(f"and {len(comparison.slices) - _SLICES:,} more slices, which --json has")


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def _sure(change: Change) -> tuple[str, str]:
    if change.low is None or change.high is None:
        return "", "not known"
    return f"{change.low:+.4f} to {change.high:+.4f}", "[bold]yes[/]" if change.more_than_chance else "no"
