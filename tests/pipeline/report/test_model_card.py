"""The model card: about the model it lies beside, whatever run writes it and whatever its names are."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from core.artifacts.pushed_model import MODEL_CARD
from pipeline.report.formats import plain
from pipeline.report.make import make_report
from tests.pipeline.report.report_run import NAME, SETTINGS, write_run

CARD = {
    "intended_use": "Counting *cats*\nin shelters",
    "limits": ["no kittens | none", "daylight only"],
    "owner": "Zoë <zoe@example.org>",
    "license": None,
}


def card_of(run_dir: Path, version: str = "17") -> Path:
    return run_dir / "serving" / version / MODEL_CARD


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = tmp_path_factory.mktemp("build") / NAME
    make_report(run_dir, NAME, write_run(run_dir, "pushed"), SETTINGS | {"card": CARD})
    return card_of(run_dir).read_text(encoding="utf-8")


def test_it_has_the_metrics_of_every_slice_with_intervals(card: str) -> None:
    assert card.startswith("# Model card: tests, version 17") and "RANDOM" in card
    assert "| overall | 30 | 80.0% | 62.7 to 90.5 | 90.0% |" in card
    assert "| accuracy | 0.8 | 0.627 to 0.905 | 0.9 |" in card
    assert "| label=cat | 20 | 90.0% | " in card


def test_it_has_what_people_write_in_the_settings(card: str) -> None:
    assert "\n## Intended use\n\nCounting \\*cats\\* in shelters\n" in card
    assert "\n- no kittens \\| none\n- daylight only\n" in card
    assert "| owner | Zoë \\<zoe@example.org\\> |" in card
    assert "| license | not given (setting card.license) |" in card


def test_it_has_what_it_takes_to_reproduce_the_model(card: str) -> None:
    lock = hashlib.sha256((Path(__file__).parents[3] / "uv.lock").read_bytes()).hexdigest()

    assert f"| lock hash (uv.lock) | {lock} |" in card
    assert "| data hash (paths, contents, classes) | 5ad0 |" in card and "| code hash | " in card
    assert "| training.early\\_stopping | null |" in card


def test_names_mean_nothing_to_markdown_or_html(card: str) -> None:
    assert "<script>" not in card and "\\<script\\>alert(1)\\</script\\> &amp; " in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(row.endswith("|") for row in rows) and "\n\n|---" not in card
    assert plain("a|b\n# <i>*x*") == "a\\|b \\# \\<i\\>\\*x\\*"


def test_a_cached_push_leaves_the_card_as_it_was_and_writes_one_only_where_it_is_missing(tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    make_report(run_dir, NAME, write_run(run_dir, "pushed"), SETTINGS)
    before = card_of(run_dir).read_text()

    make_report(run_dir, NAME, write_run(run_dir, "pushed"), SETTINGS | {"runtime": {"cache": False}})

    assert card_of(run_dir).read_text() == before

    card_of(run_dir).unlink()
    make_report(run_dir, NAME, write_run(run_dir, "pushed"), SETTINGS)

    assert card_of(run_dir).read_text().startswith("# Model card: tests, version 17")


def test_after_a_rollback_the_version_that_serves_gets_no_card_of_another_model(tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    outcome = write_run(run_dir, "pushed")
    (run_dir / "serving" / "17").rmdir()
    (run_dir / "serving" / "16").mkdir()

    make_report(run_dir, NAME, dataclasses.replace(outcome, pushed_model=str(run_dir / "serving" / "16")), SETTINGS)

    assert list((run_dir / "serving").rglob("*.md")) == []


def test_a_refused_model_gets_no_card(tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    make_report(run_dir, NAME, write_run(run_dir, "refused"), SETTINGS)

    assert list(run_dir.rglob("*.md")) == []
