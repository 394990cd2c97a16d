"""Tables fit the terminal that they are printed on."""

import io
from datetime import datetime

import pytest
import rich.console

from core.artifacts.last_run import Metric
from pipeline.cli import tables
from pipeline.runs.history import Run

ID = "2026-11-30T20:41:58.065293"


@pytest.mark.parametrize(
    ("width", "metrics"), [(60, ()), (80, ("accuracy",)), (100, tables.SHOWN[:3]), (200, tables.SHOWN)]
)
def test_the_history_has_as_many_metrics_as_fit_and_whole_ids(width: int, metrics: tuple[str, ...]) -> None:
    measured = {name: Metric(0.9278, 0.9, 0.95, None, None) for name in tables.SHOWN}
    run = Run(ID, datetime.now(), "unfinished", 39.2, {}, measured, 180, "1796071348", None)
    printed = io.StringIO()
    tables.print_history(rich.console.Console(file=printed, width=width), [run])
    head, row = (line.split() for line in printed.getvalue().splitlines())
    assert head == ["run", "verdict", *metrics, "version", "time"]
    assert row == [ID, "unfinished", *["0.9278"] * len(metrics), "1796071348", "39", "s"]
