"""The pages show what was measured, and nothing else."""

from pathlib import Path

import pytest

from benchmarks import pages, results
from benchmarks.results import Row
from tests.conftest import ROOT


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_page_shows_what_the_measurements_say(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert pages.filled(text) == text, "run `make bench CASES=pages`"


def measured(case: str, images: int, what: str, wall: float, number: int = 1, **rest: float) -> Row:
    return Row("2026-11-30T12:00:00", "abc1234", "flowers", case, images, number, what, wall, 2 * wall, 1500, **rest)


ROWS = [
    *(measured("cold", 500, "bare", 10.0, number) for number in (1, 2, 3)),
    *(measured("cold", 500, "run", wall, number) for number, wall in enumerate((16.0, 17.0, 30.0), 1)),
    measured("cold", 64, "run", 1.0),  # a trial: fewer pictures
    measured("cold", 500, "stage Trainer", 4.0),
    *(measured("scale", count, what, 5 + count / 100) for count in (1000, 4000, 16000) for what in ("bare", "run")),
    *(measured("served", 500, f"{name} {n}", wall) for n in (1, 32) for name, wall in (("served", 1), ("network", 2))),
    *(measured("peers", 500, peer, 50.0, value=0.9) for peer in pages.PEERS),
]


def test_ratios_are_taken_round_by_round_of_the_most_pictures() -> None:
    (cold,) = (line for line in pages.summary(ROWS) if line.startswith("| 500 photos"))
    assert "17 s / 10 s = 1.70 (1.60 to 3.00) (CPU 1.70)" in cold


def test_the_line_goes_through_the_medians() -> None:
    *_, last = pages.line(ROWS)
    assert last == "The line: 5.0 s and 10.00 ms a picture (least squares)."


def test_a_table_of_what_was_not_measured_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "<!-- made by benchmarks/pages.py: {} -->\nbefore\n<!-- end -->"
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    results.save(tmp_path / "cpu-2-cores.csv", ROWS)
    assert results.load(tmp_path / "cpu-2-cores.csv") == ROWS
    for name in pages.BLOCKS:
        filled = pages.filled(text.format(name))
        assert ("before" in filled) == (name in ("floor", "epochs", "data")), name
        assert pages.filled(filled) == filled
