"""The report: true numbers, whatever the names, whatever the run left."""

import base64
import csv
import dataclasses
import functools
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from core.artifacts.ingest_record import ClassCounts, IngestCounts
from core.artifacts.last_run import LAST_RUN, Failure, Outcome, RunSettings, Stage
from core.artifacts.last_run import SETTINGS as SETTINGS_FILE
from core.artifacts.predictions import Prediction
from core.artifacts.training_summary import Evaluation
from core.artifacts.verdict import Confusion
from core.errors import InputError
from pipeline.report import failure_analysis, graph, listing, plots, thumbnails
from pipeline.report.collect import ReportData, collect
from pipeline.report.confusions import confused_pairs, confusion_matrix
from pipeline.report.failure_analysis import Trait
from pipeline.report.formats import flattened, integer, reasons, seconds
from pipeline.report.make import make_report, remake_report
from pipeline.report.reliability import reliability
from pipeline.report.render import model_card, render
from pipeline.runs.lineage import NodeRun, Output
from tests.pipeline.report import report_run
from tests.pipeline.report.report_run import EVIL, NAME, SETTINGS, write_run

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
    run_dir = tmp_path_factory.mktemp("build") / NAME
    make_report(run_dir, NAME, write_run(run_dir, "pushed", images="0dd5"), SETTINGS)
    return run_dir, make_report(run_dir, NAME, write_run(run_dir, "refused"), SETTINGS).read_text(encoding="utf-8")


@functools.cache
def collect_once(run_dir: Path) -> ReportData:
    """Of the refused run."""
    return collect(run_dir, NAME, Outcome("refused", 3, "", run_id="2026-01-02T03:04:05.678"), SETTINGS)


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


def test_a_failure_shows_the_images_behind_it(refused) -> None:
    html = refused[1][refused[1].index('id="failures"') : refused[1].index('id="data"')]

    assert "4 of 10 images are wrong; the last blessed model got 4 of these right." in words(
        refused[1], "failures", "data"
    )
    assert "confident in these mistakes" in html
    assert html.count("<img") == 4 + 2 * 6  # the mistakes, and training images of the two classes
    assert html.index("23.png") < html.index("20.png")  # as the gate ordered them
    assert "(<code>per_slice.accuracy.min</code>)" in html


def test_past_failures_that_are_wrong_have_a_table_and_their_pictures(refused) -> None:
    said = words(refused[1], "regressions", "confusions")
    assert "2 of 5 images of /past are right; none may be wrong (evaluation.max_regressions). broken" in said
    assert f"labeled {EVIL}, predicted cat (90.0%)" in said
    assert "cat/y.png cat nothing (the model could not read the image) 0.0% right the model cannot read it" in said
    assert re.search(r"cat/z.png cat . . . it is cut short", said)
    assert refused[1][refused[1].index('id="regressions"') : refused[1].index('id="confusions"')].count("<img") == 1


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

    slices = text[text.index("The whole split and every slice") :]
    assert "overall 30 80.0% 62.7 to 90.5" in slices
    assert "broken 10 60.0% 50.0 to 70.0" in slices
    assert slices.index("broken 10") < slices.index("label=cat")  # what failed comes first
    assert "80.0% \N{MINUS SIGN}20.0 \N{MINUS SIGN}35.0 to \N{MINUS SIGN}5.0" in slices
    assert "80.0% +10.0 \N{MINUS SIGN}5.0 to 25.0" in slices


def test_the_whole_split_is_compared_and_every_bound_is_listed(refused) -> None:
    text = words(refused[1], "metrics", "confusions")

    assert re.search(r"accuracy 0.800 0.627 to 0.905 0.900 .0.100 .0.150 to .0.050 worse cross entropy", text)
    assert text.index("per_slice.accuracy.min label=<") < text.index("thresholds.accuracy.min overall")
    assert "0.500 to 0.700 0.01 broken" in text and "0.700 to 0.900 0.01 doubt" in text


def test_the_classes_of_a_slice_whose_bound_is_broken_are_listed(refused) -> None:
    text = words(refused[1], "metrics", "confusions")

    classes = text[text.index("where a bound is broken") :]
    assert "50.0% 40.0 to 60.0 50.0% 40.0 to 60.0 50.0% 40.0 to 60.0" in classes
    assert classes.index(" 4 wrong") < classes.index(" 6 correct")
    assert text.count("where a bound is broken") == 1  # none is on label=cat


def test_a_random_base_is_loud(refused) -> None:
    assert "The base network is RANDOM." in words(refused[1])


def test_what_a_run_of_a_series_read_computed_and_started_from_is_there(refused) -> None:
    text = words(refused[1])
    assert "Spans: day-8, day-9." in text
    assert "7 images computed in this run, 23 reused from earlier runs" in text
    assert "/models/7: head rebuilt, 4 layers of the base (the classes " in text


def test_the_history_lists_each_run_and_links_its_report(refused) -> None:
    run_dir, html = refused
    text = words(html, "history", "versions")

    assert re.search(r"1 20\d\d-.{14} pushed 80.0% 17 open 2 20\d\d-.{14} refused 80.0% - this one", text)
    (link,) = (a["href"] for a in Page(html).all("a") if a["href"].endswith(".html"))
    assert (run_dir / "reports" / link).is_file()


def test_settings_and_lineage_are_there(refused) -> None:
    text = words(refused[1])

    assert "training.early_stopping null" in text and "training.steps 1 " in text and "training.flag true" in text
    assert re.search(r"Trainer complete \d+ \d+ model_run \d+ this run artifacts/Trainer/model_run/", text)


@pytest.mark.parametrize("stages", range(10))
def test_a_run_that_failed_at_any_stage_has_a_report(stages: int, tmp_path: Path) -> None:
    outcome = write_run(tmp_path / NAME, "failed", stages)

    report = collect(tmp_path / NAME, NAME, outcome, SETTINGS)
    text = words(render(report))

    assert report.missing == []
    assert "Failed Bad input or settings stopped the run in Broken" in text
    assert f"no {EVIL}" in text and "second line" in text


def test_the_box_at_the_top_names_every_point_of_a_list_before_what_is_below_them() -> None:
    files = "".join(f"\n    {number}.png: truncated" for number in range(9))

    assert reasons(f"unfit:\n- 9 files are no images:{files}\n- 1 class is empty") == [
        "9 files are no images:",
        "1 class is empty",
    ]
    assert reasons("unfit:\nsecond line") == ["second line"] and reasons("unfit") == []


def test_rejected_files_are_listed_with_their_reasons(refused) -> None:
    text = words(refused[1], "data", "training")

    assert re.search(r"Rejected files \(1\).* File Step Reason .*decode truncated", text)


def test_duplicates_are_listed_those_that_contradict_first(refused) -> None:
    text = words(refused[1], "data", "training")

    assert re.search(r"cat/3.png, b.png identical cat, .* contradict train, test 2 cat/1.png, cat/2.png near cat", text)


def test_drift_is_shown_against_the_last_run_with_other_images(refused) -> None:
    text = words(refused[1], "data", "training")

    assert "34 training images; run 2026-01-01 03:04:05, the last one with different images, had 22." in text
    assert re.search(r"brightness bright 90.9% 58.8% 0.321 image/width median 42 54 1.200", text)
    assert "label" not in text[text.index("What changed") : text.index("Distance:")]  # its shares are the same


def test_a_run_on_the_same_images_with_another_schema_is_passed_over(tmp_path: Path) -> None:
    first = write_run(tmp_path, "pushed", images="0dd5")
    write_run(tmp_path, "failed")
    drift = collect(tmp_path, NAME, write_run(tmp_path, "pushed"), SETTINGS).data.drift
    assert drift and drift.run == first.run_id


def test_the_search_and_the_learning_rate_are_there(refused) -> None:
    text = words(refused[1], "training", "metrics")

    assert "0 0.5 none 0.2 1 1.5 64 0.2" in text
    assert 'aria-label="Learning rate by step, from 0.01 to 0.005."' in refused[1]


def test_what_a_cached_stage_reused_is_listed_with_its_maker(tmp_path: Path) -> None:
    outcome = write_run(tmp_path / NAME, "failed", 0)
    theirs, mine = Output(2, "u", {}), Output(1, "u", {})
    nodes = [
        NodeRun("A", "cached", {"model": [theirs]}, {}, 7),
        NodeRun("B", "complete", {"model": [mine]}, {"in": [theirs]}, 8),
    ]
    makers = {2: (3, "2025-12-31T03:04:05.678"), 1: (8, outcome.run_id)}
    report = collect(tmp_path / NAME, NAME, outcome, SETTINGS)
    report = dataclasses.replace(report, lineage=nodes, makers=makers)

    text = words(render(report), "lineage", "history")

    assert "A cached 7 - model 2 execution 3 of run 2025-12-31 03:04:05 u" in text
    assert "B complete 8 2 model 1 this run u" in text


def test_a_node_is_drawn_below_all_that_it_read() -> None:
    nodes = [
        NodeRun(name, "complete", {"out": [Output(ord(name), "", {})]}, {"in": [Output(ord(n), "", {}) for n in read]})
        for name, read in (("a", ""), ("b", "a"), ("c", "ab"))
    ]

    drawn = graph.layout(nodes)

    height = {box.name: box.y for box in drawn.boxes}
    assert height["a"] < height["b"] < height["c"]
    assert [(one.name, other.name) for one, other in drawn.lines] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(0 < box.x < drawn.width and 0 < box.y < drawn.height for box in drawn.boxes)


def test_what_mistakes_share_is_shown_only_beyond_chance() -> None:
    def predicted(number: int, right: bool, brightness: str) -> Prediction:
        slices = {"brightness": brightness, "odd": str(number % 2)}
        return Prediction("a" if right else "b", 0.5, 0.5, 1, str(number), "", "a", slices)

    right = [predicted(n, True, "dark" if n < 5 else "bright") for n in range(40)]
    wrong = [predicted(n, False, "dark" if n < 48 else "bright") for n in range(40, 50)]

    assert failure_analysis.traits(wrong, right) == [Trait("brightness=dark", 8, 5)]
    assert failure_analysis.traits(wrong[:2], right[:3]) == []


def test_what_makes_a_slice_different_from_other_images_is_shown() -> None:
    """The slice's name says nothing; that its images are soft says why."""
    predictions = [
        Prediction("b" if n < 9 else "a", 0.5, 0.5, 1, f"{n}", "", "a", {"lens": str(n < 10), "sharpness": sharpness})
        for n, sharpness in enumerate(["soft"] * 15 + ["sharp"] * 25)
    ]

    found = failure_analysis.analyze(Failure("", slice="lens=True"), predictions)

    assert found is not None
    assert (found.slice_traits, found.count, found.outside) == ([Trait("sharpness=soft", 10, 5)], 10, 30)
    assert found.traits == []


def test_hundreds_of_classes_stay_readable(refused) -> None:
    run_dir, _ = refused
    names = [f"class {n:03d}" for n in range(150)]
    predictions = [prediction(name, names[(n + (k == 0)) % 150]) for n, name in enumerate(names) for k in range(4)]
    predictions += [prediction(names[7], names[70])] * 9
    report = collect(run_dir, NAME, Outcome("refused", 3, "", run_id="2026-01-02T03:04:05.678"), SETTINGS)
    classes = {name: ClassCounts({"train": 8, "test": 4}, 0) for name in names}
    data = dataclasses.replace(report.data, counts=dataclasses.replace(report.data.counts, classes=classes))
    slices = [report_run.measured(f"label={name}", 4, 0.75) for name in names]
    verdict = dataclasses.replace(report.verdict, slices=slices)

    html = render(dataclasses.replace(report, predictions=predictions, data=data, verdict=verdict, training=None))

    matrix = re.search(r'<table class="matrix crowded">.*?</table>', html, re.DOTALL)
    assert matrix and matrix[0].count("<tr>") == 31 and "class 007" in matrix[0] and "class 070" in matrix[0]
    assert "the 30 classes of the most frequent mistakes, of 150" in html
    assert "class 007" in words(html, "confusions", "calibration")[:200]  # the most frequent mistake comes first
    assert "The first 100 of 151 rows." in words(html, "metrics", "confusions")
    listed = files(html)["slices"]
    assert [row["slice"] for row in listed] == ["overall", *sorted(f"label={name}" for name in names)]
    assert listed[1]["accuracy.value"] == "0.75"
    assert {row["class"]: row["splits.train"] for row in files(html)["classes"]} == dict.fromkeys(names, "8")


def files(html: str) -> dict[str, list[dict[str, str]]]:
    """The CSV files in the page, by what they list."""
    found = {}
    for link in Page(html).all("a"):
        if name := link.get("download"):
            content = base64.b64decode(str(link["href"]).removeprefix("data:text/csv;charset=utf-8;base64,")).decode()
            found[name.removesuffix(".csv")] = list(csv.DictReader(io.StringIO(content, newline="")))
    return found


def test_a_name_is_no_formula_of_a_spreadsheet() -> None:
    rows = ["=1+1", *map(str, range(listing.ROWS))]

    (found,) = files(
        f'<a download="names.csv" href="{listing.listing(rows, lambda row: {"name": row}).csv}"></a>'
    ).values()

    assert [row["name"] for row in found[:2]] == ["'=1+1", "0"]


def test_the_page_is_bounded_whatever_the_run_has(refused) -> None:
    """Three thousand classes of long names, whose bounds are all broken."""
    names = [f"{n:05d}{EVIL}{'長' * 60}" for n in range(3000)]
    report = report_run.many_classes(collect_once(refused[0]), names)

    html, card = render(report), model_card(report, "17")

    assert len(html.encode()) < 10 * 2**20
    assert "And 2,990 more" in words(html, "failures", "data")
    assert set(files(html)) == {"classes", "slices", "bounds"}
    assert len(card.encode()) < 100_000 and "and 2,970 more classes." in card and "more slices" in card


NOTHING = IngestCounts(
    found=0,
    ignored=0,
    rejected=0,
    left_out=0,
    read=0,
    splits={"train": 0, "eval": 0, "test": 0},
    duplicates=0,
    layout="class folders",
    given=[],
    classes={},
)


@st.composite
def odd_counts(draw: st.DrawFn) -> IngestCounts:
    """Classes without images, splits without images, nothing at all."""
    few = st.integers(0, 2)
    of_class = st.builds(ClassCounts, st.fixed_dictionaries(dict.fromkeys(NOTHING.splits, few)), few, few)
    return dataclasses.replace(
        NOTHING,
        found=draw(few),
        rejected=draw(few),
        left_out=draw(few),
        splits=draw(st.fixed_dictionaries(dict.fromkeys(NOTHING.splits, few))),
        classes=draw(st.dictionaries(st.text(max_size=3), of_class, max_size=3)),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=odd_counts(), right=st.lists(st.booleans(), max_size=3), judged=st.booleans(), trained=st.booleans())
def test_there_is_a_page_and_a_card_of_every_ending(refused, counts, right, judged, trained) -> None:
    """Such as a run in which every file of a class is a reject: just then one needs it."""
    run_dir, _ = refused
    report = collect_once(run_dir)
    overall = dataclasses.replace(
        report.verdict.overall, examples=0, metrics={}, baseline=None, change=None, classes=[]
    )
    report = dataclasses.replace(
        report,
        data=dataclasses.replace(report.data, counts=counts, rejects=[], samples={}),
        predictions=[prediction("a", "a" if one else "") for one in right],
        verdict=dataclasses.replace(report.verdict, overall=overall, slices=[], judged=[]) if judged else None,
        training=report.training if trained else None,
        gallery=[],
        analyses=[],
        pushed="/push/1",
    )

    assert f"{counts.rejected} rejected" in words(render(report))
    assert "# Model card" in model_card(report, "17")


def test_without_a_baseline_nothing_is_compared(refused) -> None:
    run_dir, _ = refused
    report = collect(run_dir, NAME, Outcome("pushed", 0, "", run_id="2026-01-02T03:04:05.678"), SETTINGS)
    overall, *slices = (
        dataclasses.replace(found, baseline=None, change=None)
        for found in (report.verdict.overall, *report.verdict.slices)
    )
    verdict = dataclasses.replace(
        report.verdict,
        overall=overall,
        slices=slices,
        judged=[],
        not_compared="its files are gone",
        regressions=None,
    )

    text = words(render(dataclasses.replace(report, verdict=verdict)))

    assert "Last blessed modelnoneits files are gone" in text
    assert "No bounds were set on the model's quality." in text
    assert "Before" not in text[text.index("Metrics on the test split") : text.index("Confusion matrix")]


def test_the_losses_that_are_plotted_together_are_both_without_penalties(tmp_path: Path) -> None:
    outcome = write_run(tmp_path / NAME, "refused")
    training = collect(tmp_path / NAME, NAME, outcome, SETTINGS).training
    assert [(point.step, point.value) for point in training.loss] == [(1, 2.0), (2, 1.0)]


def test_a_training_without_curves_has_its_numbers(tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    outcome = write_run(run_dir, "refused")
    for events in (run_dir / "artifacts/Trainer/model_run").rglob("events*"):
        events.unlink()

    report = collect(run_dir, NAME, outcome, SETTINGS)

    assert report.missing == [] and "Learning rate by step" not in render(report)
    summary = dataclasses.replace(report.training.summary, evaluations=[])
    bare = dataclasses.replace(report.training, summary=summary)
    assert "Kept: step 2" in words(render(dataclasses.replace(report, training=bare)))


def test_thumbnails_of_16_bit_images_are_not_black_or_white(tmp_path: Path) -> None:
    target = io.BytesIO()
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(target, "PNG")
    (tmp_path / "Split-train").mkdir()
    features = {"image/encoded": target.getvalue(), "label": b"a", "image/path": b"a.png"}
    with tf.io.TFRecordWriter(str(tmp_path / "Split-train" / "data")) as writer:
        example = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in features.items()}
        writer.write(tf.train.Example(features=tf.train.Features(feature=example)).SerializeToString())

    ((_, uri),) = thumbnails.samples(f"{tmp_path}/Split-train", ["a"])["a"]

    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert abs(np.asarray(image).mean() - 40_000 / 257) < 2


def test_a_run_that_failed_before_its_first_stage_has_a_report(tmp_path: Path) -> None:
    outcome = Outcome("failed", 2, "", failures=[Failure("no folder")], log="logs/20260102-030405.log")

    path = make_report(tmp_path, NAME, outcome, SETTINGS)

    assert path == tmp_path / "reports" / "20260102-030405.html"
    assert "stopped the run before the first stage" in words(path.read_text())


def test_a_damaged_artifact_costs_its_part_alone_and_is_named(tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    outcome = write_run(run_dir, "refused")
    (next((run_dir / "artifacts/Trainer/model_run").iterdir()) / "training_summary.json").write_text('{"steps": ')

    report = collect(run_dir, NAME, outcome, SETTINGS)

    assert report.training is None and report.verdict is not None and report.predictions
    assert len(report.missing) == 1 and "training_summary.json" in report.missing[0]
    assert "Parts of this report could not be made" in words(render(report))


def test_the_report_can_be_made_again_with_the_settings_of_the_run(refused, tmp_path: Path) -> None:
    run_dir, _ = refused
    LAST_RUN.write(run_dir, Outcome("refused", 3, "", stages=[Stage("x", 1.0, None, cached=False)]))
    SETTINGS_FILE.write(run_dir, RunSettings(SETTINGS))

    path = remake_report(run_dir, NAME)

    assert "training.early_stopping null" in words(path.read_text())
    with pytest.raises(InputError, match="run the pipeline first"):
        remake_report(tmp_path, NAME)


def prediction(label: str, predicted: str, probability: float = 1.0) -> Prediction:
    return Prediction(predicted, probability, 0.0, 1, "", "", label, {})


def test_calibration_error_is_the_weighted_distance() -> None:
    predictions = [prediction("a", "a", 0.95)] * 3 + [prediction("a", "b", 0.95)] + [prediction("a", "a", 0.5)] * 4

    found = reliability(predictions)

    assert found is not None
    assert [(b.low, b.accuracy.count, b.accuracy.value) for b in found.bins] == [(0.5, 4, 1.0), (0.9, 4, 0.75)]
    assert found.error == pytest.approx((4 * 0.5 + 4 * 0.2) / 8)
    assert found.excess == pytest.approx((4 * -0.5 + 4 * 0.2) / 8)
    assert reliability([]) is None
    top = reliability([prediction("a", "a", 1.0)])
    assert top is not None and top.bins[0].high == 1.0


def test_confusions_are_counted_by_true_and_predicted_class() -> None:
    predictions = [prediction("a", "a"), prediction("a", "b"), prediction("a", "b"), prediction("b", "b")]

    assert confusion_matrix(predictions, ["a", "b"]).counts == [[1, 2], [0, 1]]
    assert confused_pairs(predictions) == [Confusion("a", "b", 2)]


def test_values_are_formatted_for_people() -> None:
    assert [seconds(s) for s in (0.21, 9.96, 42.4, 227)] == ["0.2 s", "10.0 s", "42 s", "3 min 47 s"]
    assert integer(1234567) == "1,234,567"
    assert flattened({"a": {"b": [1, "x"], "c": {}}, "d": 1, "e": True}) == [
        ("a.b", '[1, "x"]'),
        ("a.c", "{}"),
        ("d", "1"),
        ("e", "true"),
    ]


def test_plots_follow_the_theme_and_are_the_same_every_time() -> None:
    evaluations = [Evaluation(1, 100.0, 0.1), Evaluation(2, 0.1, 0.9)]

    svg = plots.training_loss([], evaluations, best=2)

    assert svg == plots.training_loss([], evaluations, best=2)
    assert "var(--first)" in svg and "#0000" not in svg and "mathdefault" not in svg
    assert "style=" not in svg and "<style" not in svg and "<metadata" not in svg
    assert plots.training_loss([], [Evaluation(1, None, 0.0)], best=1).startswith("<svg")
