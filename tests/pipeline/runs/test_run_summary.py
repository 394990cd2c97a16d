"""What a run says at its end."""

import shlex
from pathlib import Path

import pytest

from core.artifacts.last_run import Failure, Images, Metric, Outcome, Tuning
from core.checkout import CHECKOUT
from pipeline.runs.run_summary import run_summary


def said(outcome: Outcome) -> list[str]:
    return [f"{line.head}{line.text}" for line in run_summary(outcome, Path("/build/birds"))]


def test_a_pushed_run_says_what_was_measured_and_where_to_look() -> None:
    lines = said(
        Outcome(
            "pushed",
            0,
            "/build/birds/artifacts",
            pushed_model="/serving/7",
            report="/r.html",
            seconds=83.4,
            peak_rss_mb=1234,
            images=Images(12, 1, 1, 3, 1010, 1000, 5, 5, 0),
            tuning=Tuning(3, {"head.l2": 0.1}),
            metrics={"accuracy": Metric(0.9, 0.8, 1.0, 0.85, None), "f": Metric(0.9, None, None, None, None)},
            notes=["the base is random"],
            log="/run.log",
        )
    )

    assert lines == [
        "pushed: /serving/7",
        "  accuracy 0.9000 (last blessed 0.8500)",
        "  1,010 images read, 1 rejected, 3 left out; 1,000 train, 5 eval, 5 test",
        "  best of 3 trials: head.l2=0.1",
        "  to keep these without a search, write them into the settings, or give them as SET",
        "  note: the base is random",
        '  try it: make predict MODEL=/serving/7 IMAGES="one.jpg two.png"',
        "  83 s · peak memory 1,234 MB",
        "  report:  /r.html",
        "  details: /build/birds/last_run.json",
        "  log:     /run.log",
    ]


def test_a_run_whose_model_waits_says_how_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    lines = said(Outcome("waiting", 0, "/artifacts", waiting="/serving/.waiting/7"))
    assert lines[:3] == [
        "waiting for approval: /serving/.waiting/7",
        '  try it: make predict MODEL=/serving/.waiting/7 IMAGES="one.jpg two.png"',
        '  decide: make approve VERSION=7 WHY="…" (or reject), with this run\'s CONFIG, ROOT and SET',
    ]


def test_what_is_to_be_pasted_survives_any_folder() -> None:
    folder = "/my models/[v2] it's $HOME/7"
    (line,) = (line for line in said(Outcome("pushed", 0, "/root", pushed_model=folder)) if "try it" in line)
    assert shlex.split(line.split("try it: ")[1]) == ["make", "predict", f"MODEL={folder}", "IMAGES=one.jpg two.png"]


def test_of_many_failures_only_some_are_shown() -> None:
    lines = said(Outcome("refused", 3, "/root", failures=[Failure(f"class {n}") for n in range(1000)]))
    assert lines[10:12] == ["  class 9", "  and 990 more, in the report and the details below"]


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        ("refused", 3, "refused: nothing was pushed"),
        ("failed", 2, "failed: bad input or settings"),
        ("failed", 1, "failed: internal error"),
    ],
)
def test_a_run_that_pushed_nothing_says_why_first(status: str, code: int, verdict: str) -> None:
    failures = [Failure("3 files are damaged", stage="ImageExampleGen"), Failure("too low")]
    lines = said(Outcome(status, code, "/root", failures=failures))  # type: ignore[arg-type]
    assert lines[:3] == [verdict, "  ImageExampleGen: 3 files are damaged", "  too low"]
    assert lines[3:] == ["  0 s", "  details: /build/birds/last_run.json"]
