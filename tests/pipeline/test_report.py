"""The report: true numbers, whatever the names, whatever the run left."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.prediction import Prediction
from pipeline.report import measures, plots
from pipeline.report.collect import collect
from pipeline.report.make import make_report, remake_report
from pipeline.report.render import flat, render, seconds, whole
from tests.pipeline import report_run
from tests.pipeline.report_run import EVIL, NAME, SETTINGS, write_run
from trainer.errors import InputError

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """What an HTML page holds: elements with their attributes, its text, and whether its tags fit together."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        self.text += data if self._open[-1:] not in (["style"], ["script"]) else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a pipeline with a pushed and then a refused run, and the latter's report."""
    home = tmp_path_factory.mktemp("build") / NAME
    make_report(home, NAME, write_run(home, "pushed"), SETTINGS)
    return home, make_report(home, NAME, write_run(home, "refused"), SETTINGS).read_text(encoding="utf-8")


def words(html: str, first: str = "", end: str = "") -> str:
    """The page's text on one line, from the element with the id `first` up to the one with the id `end`."""
    cut = html[html.index(f'id="{first}"') : html.index(f'id="{end}"')] if first else html
    if first:
        cut = cut[cut.index(">") + 1 : cut.rindex("<section")]
        cut = f"<section><h2>{cut}"
    return re.sub(r"\s+", " ", Page(cut).text).replace("\N{EN DASH}", "-")


def test_the_verdict_and_why_stand_at_the_top(refused) -> None:
    assert re.search(
        r"Refused.{0,20}One bound is broken.{0,80}accuracy is 0.6000 on the slice label=", words(refused[1])
    )


def test_a_failure_shows_the_pictures_behind_it(refused) -> None:
    html = refused[1][refused[1].index('id="failures"') : refused[1].index('id="data"')]

    assert "4 of 10 images are wrong" in re.sub(r"\s+", " ", html)
    assert "sure of these mistakes" in html
    assert html.count("<img") == 4
    assert "(<code>per_slice.accuracy.min</code>)" in html


def test_names_are_text_and_nothing_else(refused) -> None:
    page = Page(refused[1])

    assert len(page.all("script")) == 1
    assert "<script>alert(1)" not in refused[1]
    assert page.text.count(EVIL) >= 8  # and they are shown as they are, in tables and plots


def test_nothing_is_asked_of_the_network(refused) -> None:
    page = Page(refused[1])

    links = [a["src"] for tag in ("img", "script", "iframe") for a in page.all(tag) if "src" in a]
    assert links and all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert all(a["href"].startswith(("#", "data:")) or a["href"].endswith(".html") for a in page.all("a"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in page.elements)  # the policy would forbid it


def test_the_page_can_be_read_aloud(refused) -> None:
    page = Page(refused[1])

    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.elements}
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    assert all(a.get("aria-hidden") == "true" or a.get("aria-label") for a in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= set(ids)


def test_slices_stand_beside_the_baseline_with_their_intervals(refused) -> None:
    text = words(refused[1], "metrics", "confusions")

    assert "overall 30 80.0 % 62.7-90.5" in text
    assert "broken 10 60.0 % 31.3-83.2" in text
    assert text.index("broken") < text.index("label=cat")  # what failed comes first
    assert "80.0 % -20.0" in text and "80.0 % +10.0" in text


def test_a_random_base_is_loud(refused) -> None:
    assert "The base network is RANDOM." in words(refused[1])


def test_what_a_run_of_a_series_read_computed_and_began_with_is_there(refused) -> None:
    text = words(refused[1])
    assert "Spans: day-8, day-9." in text
    assert "7 images computed in this run, of 23 known from earlier ones" in text
    assert "/models/7: head rebuilt, 4 layers of the base (the classes " in text


def test_the_history_tells_each_run_and_links_its_report(refused) -> None:
    home, html = refused
    text = words(html, "history", "versions")

    assert re.search(r"1 20\d\d-.{14} pushed 80.0 % 17 open 2 20\d\d-.{14} refused 80.0 % - this one", text)
    (link,) = (a["href"] for a in Page(html).all("a") if a["href"].endswith(".html"))
    assert (home / "reports" / link).is_file()


def test_settings_and_lineage_are_there(refused) -> None:
    text = words(refused[1])

    assert "training.early_stopping null" in text and "training.steps 1 " in text and "training.flag true" in text
    assert re.search(r"Trainer complete model_run \d+ artifacts/Trainer/model_run/", text)


@pytest.mark.parametrize("stages", range(7))
def test_a_run_that_failed_at_any_stage_has_a_report(stages: int, tmp_path: Path) -> None:
    outcome = write_run(tmp_path / NAME, "failed", stages)

    facts = collect(tmp_path / NAME, NAME, outcome, SETTINGS)
    text = words(render(facts))

    assert facts.missing == []
    assert "Failed The input is unfit: the run stopped in Broken" in text
    assert f"no {EVIL}" in text and "second line" in text


def test_a_run_that_failed_before_its_first_stage_has_a_report(tmp_path: Path) -> None:
    outcome = report_run.Outcome("failed", 2, "", failures=[{"message": "no folder"}], log="logs/20260102-030405.log")

    path = make_report(tmp_path, NAME, outcome, SETTINGS)

    assert path == tmp_path / "reports" / "20260102-030405.html"
    assert "the run stopped before the first stage" in words(path.read_text())


def test_a_damaged_artifact_costs_its_part_alone_and_is_told(tmp_path: Path) -> None:
    home = tmp_path / NAME
    outcome = write_run(home, "refused")
    (next((home / "artifacts/Trainer/model_run").iterdir()) / "training_summary.json").write_text('{"steps": ')

    facts = collect(home, NAME, outcome, SETTINGS)

    assert facts.training is None and facts.gate is not None and facts.predictions
    assert len(facts.missing) == 1 and "training_summary.json" in facts.missing[0]
    assert "Parts of this report could not be made" in words(render(facts))


def test_the_report_can_be_made_again_with_the_settings_of_the_run(refused, tmp_path: Path) -> None:
    home, _ = refused
    stage = {"id": "x", "seconds": 1.0, "cached": False}
    record = {"status": "refused", "exit_code": 3, "pipeline_root": "", "stages": [stage], "later": 1}
    (home / "last_run.json").write_text(json.dumps(record))

    path = remake_report(home, NAME)

    assert "training.early_stopping null" in words(path.read_text())
    with pytest.raises(InputError, match="run the pipeline first"):
        remake_report(tmp_path, NAME)


def test_wilson_intervals_are_those_of_the_literature() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I.
    for successes, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        interval = measures.wilson(successes, count)
        assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    with pytest.raises(ValueError, match="is no share"):
        measures.wilson(3, 2)


def prediction(label: str, predicted: str, probability: float = 1.0) -> Prediction:
    return Prediction("", "", label, predicted, probability, 0.0, {})


def test_calibration_error_is_the_weighted_distance() -> None:
    answers = [prediction("a", "a", 0.95)] * 3 + [prediction("a", "b", 0.95)] + [prediction("a", "a", 0.5)] * 4

    bins, error = measures.calibration(answers)

    assert [(b.low, b.accuracy.count, b.accuracy.value) for b in bins] == [(0.5, 4, 1.0), (0.9, 4, 0.75)]
    assert error == pytest.approx((4 * 0.5 + 4 * 0.2) / 8)
    assert measures.calibration([]) == ([], 0)
    assert measures.calibration([prediction("a", "a", 1.0)])[0][0].high == 1.0


def test_confusions_and_f1() -> None:
    answers = [prediction("a", "a"), prediction("a", "b"), prediction("a", "b"), prediction("b", "b")]

    assert measures.confusion(answers, ["a", "b"]) == [[1, 2], [0, 1]]
    assert measures.confused_pairs(answers) == [measures.Pair("a", "b", 2, 2 / 3)]
    assert measures.f1_by_class(answers) == {"a": (1.0, 1 / 3, 0.5), "b": (1 / 3, 1.0, 0.5)}
    assert measures.f1_by_class([prediction("a", "b")])["b"] == (0.0, None, 0.0)


def test_numbers_in_words() -> None:
    assert [seconds(s) for s in (0.21, 9.96, 42.4, 227)] == ["0.2 s", "10.0 s", "42 s", "3 min 47 s"]
    assert whole(1234567) == "1\u202f234\u202f567"
    assert flat({"a": {"b": [1, "x"], "c": {}}, "d": 1, "e": True}) == [
        ("a.b", '[1, "x"]'),
        ("a.c", "{}"),
        ("d", "1"),
        ("e", "true"),
    ]


def test_plots_follow_the_theme_and_are_the_same_every_time() -> None:
    evaluations = [{"step": 1, "loss": 100.0, "accuracy": 0.1}, {"step": 2, "loss": 0.1, "accuracy": 0.9}]

    svg = plots.training_loss([], evaluations, best=2)

    assert svg == plots.training_loss([], evaluations, best=2)
    assert "var(--first)" in svg and "#0000" not in svg and "mathdefault" not in svg
    assert "style=" not in svg and "<style" not in svg and "<metadata" not in svg
    assert plots.training_loss([], [{"step": 1, "loss": float("nan"), "accuracy": 0.0}], best=1).startswith("<svg")
