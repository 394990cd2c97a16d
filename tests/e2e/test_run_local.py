"""Whole runs of the embedded default, as a user starts them."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.components.test_suspect_labels import found_among_first_25
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HEAVY = {
    "ImageExampleGen",
    "StatisticsGen",
    "Transform",
    "FeatureExtractor",
    "Trainer",
    "Evaluator",
    "ServingCheck",
    "Pusher",
    "Predictor",
    "WorstMistakes",
    "SuspectLabels",
}
SECRET = "hunter2/+%s=Zq"
SETTINGS = (
    "backbone.weights=random "
    # Beam takes the first, and quotes the second, which it does not know, in a warning.
    'runtime.beam=["--s3_secret_access_key=${env:S3_SECRET}", "--unheard_of=${env:S3_SECRET}", '
    '"--sdk_container_image=none"]'
)


def last_run(root):
    return json.loads((root / "digits" / "last_run.json").read_text())


def stages(root):
    return {stage["id"]: stage for stage in last_run(root)["stages"]}


def tested(root):
    """The paths of the test images."""
    (predictions,) = (root / "digits" / "artifacts").rglob("predictions.jsonl")
    return {json.loads(line)["path"] for line in predictions.read_text().splitlines()}


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A folder in which the embedded default has been run once, with its output."""
    root = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("S3_SECRET", SECRET)
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", "--set", SETTINGS, "--root", str(root)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield root, done


@pytest.fixture
def root(cold, tmp_path):
    """A folder of one's own with that run in it: at the same path, since the metadata names paths.

    The images, which no test changes, are not copied: by their inodes' times they would be others.
    """
    images, kept = cold[0] / "digits" / "images", tmp_path / "kept"
    shutil.copytree(cold[0], kept, ignore=lambda folder, _: [images.name] if Path(folder) == images.parent else [])
    yield cold[0]
    images.rename(tmp_path / "images")
    shutil.rmtree(cold[0])
    shutil.copytree(kept, cold[0])
    (tmp_path / "images").rename(images)


def test_a_learning_rate_is_found_on_the_features_of_the_last_run(cold, pipeline):
    root, _ = cold
    done = pipeline("find-lr", "--steps", "100", root=root)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 1e-6 < found["learning_rate"] < 1
    rows = Path(found["table"]).read_text().splitlines()
    assert rows[0] == "learning_rate,loss,smoothed_loss" and 10 < len(rows) <= 101
    assert Path(found["plot"]).read_bytes().startswith(b"\x89PNG")


def test_a_cold_run_pushes_a_model_and_says_so(cold):
    root, done = cold
    record = last_run(root)
    assert record["status"] == "pushed" and record["exit_code"] == 0
    assert (Path(record["pushed_model"]) / "saved_model.pb").is_file()
    assert record["images"]["read"] == 1797 and record["images"]["rejected"] == 0
    assert [record["images"][split] for split in ("train", "eval", "test")] == [1427, 190, 180]
    assert record["metrics"]["accuracy"]["overall"] >= 0.9
    assert record["backbone"]["cut"] == "pooled" and record["backbone"]["weights"] == "random"
    assert record["peak_rss_mb"] < 3000
    assert f"pushed: {record['pushed_model']}" in done.stdout
    assert all(any(stage in line and " s" in line for line in done.stdout.splitlines()) for stage in HEAVY)
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["last_run", "gate"])
def test_what_a_run_writes_fits_the_published_schema(cold, name):
    (written,) = (cold[0] / "digits").rglob(f"{name}.json")
    schema = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.validate(json.loads(written.read_text()), schema)


def test_the_report_of_a_run_has_every_part(cold):
    """Of the artifacts that the components really write; tests/pipeline/report looks at each part closely."""
    record = last_run(cold[0])
    page = Path(record["report"]).read_text()
    assert "Parts of this report could not be made" not in page
    parts = re.findall(r' id="([a-z]+)"', page)
    assert parts == [
        "main", "notes", "data", "labels", "training", "metrics", "confusions", "calibration", "unknown",
        "mistakes", "run", "backbone", "settings", "lineage", "history", "versions",
    ]  # fmt: skip
    assert record["backbone"]["sha256"] in page and "2.15.1" in page and "Learning rate" in page
    assert "Expected calibration error" in page and "The most frequent mistakes" in page and "Peak memory" in page
    mistakes = round((1 - record["metrics"]["accuracy"]["overall"]) * record["images"]["test"])
    assert page.count('alt="as the network saw it"') == min(12, mistakes) > 0
    assert page.count('alt="the training image ') == 3 * min(12, mistakes)
    assert 'alt="what spoke for' in page
    assert all(f">{stage}<" in page for stage in HEAVY)


def test_digits_that_were_labeled_wrong_are_suspect(cold, tmp_path):
    assert found_among_first_25(cold[0] / "digits", tmp_path, seed=0) >= 18


def test_nothing_that_a_run_writes_holds_the_secret_that_its_settings_refer_to(cold):
    root, done = cold
    written = [path for path in root.rglob("*") if path.is_file()]
    forms = [form.encode() for form in (SECRET, SECRET[:7], urllib.parse.quote(SECRET, safe=""))]
    assert [path for path in written if any(form in path.read_bytes() for form in forms)] == []
    assert SECRET[:7] not in done.stdout + done.stderr
    refers = {path.suffix for path in written if b"${env:S3_SECRET}" in path.read_bytes()}
    assert refers >= {".json", ".html", ".log", ".sqlite"}  # the log quotes what Beam was given and does not know


def test_the_same_run_again_does_no_work_and_keeps_the_pushed_model(root, pipeline, monkeypatch):
    """At once where the last run stands; else, as here without its report, by the cache of each stage."""
    before = last_run(root)
    monkeypatch.setenv("S3_SECRET", "another value of the secret")
    for stands in (True, False):
        if not stands:
            Path(before["report"]).unlink()
        done = pipeline("run", "--set", SETTINGS, root=root)
        assert done.returncode == 0, done.stdout
        assert (f"nothing has changed since the run of {before['run_id']}" in done.stdout) is stands
        assert all(stages(root)[stage]["cached"] for stage in HEAVY - {"Pusher"})  # which looks at what serves
        after = last_run(root)
        assert after["pushed_model"] == before["pushed_model"] and after["metrics"] == before["metrics"]
        assert (after["run_id"] == before["run_id"]) is stands and Path(after["report"]).exists()
        assert (after["images"]["computed"], after["images"]["reused"]) == (0, 1797)


OTHER_HEAD = (
    f"{SETTINGS} head.hidden_units=[16] training.steps=200 training.eval_every=20 "
    "training.learning_rate=1e-6 training.early_stopping=null evaluation.thresholds.accuracy.min=0.999"
)


def kill_in_training(root):
    """Starts a run with other settings of the head, and kills it once training has got somewhere."""
    trainings = root / "digits" / "artifacts" / "Trainer" / "model_run"
    before = set(trainings.iterdir())
    command = [sys.executable, "-m", "pipeline", "run", "--set", OTHER_HEAD, "--root", str(root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not any(
        int(file.stem.rpartition("-")[2]) >= 60
        for folder in set(trainings.iterdir()) - before
        for file in folder.glob("model.ckpt-*.index")
    ):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_other_head_settings_do_not_compute_features_again_and_a_refusal_says_why(root, pipeline):
    """Also where the first try is killed: the second goes on with its training, and deletes what else was left.

    And where something was damaged meanwhile: that is made again, and nothing else for it.
    """
    pushed = last_run(root)["pushed_model"]
    kill_in_training(root)
    left = [*(root / "digits" / "artifacts").glob("*/.system/stateful_working_dir/*")]
    (statistics,) = (root / "digits" / "artifacts" / "StatisticsGen").glob("statistics/*/Split-test/FeatureStats.pb")
    content = statistics.read_bytes()
    statistics.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    done = pipeline("run", "--set", OTHER_HEAD, root=root)
    assert done.returncode == 3, done.stdout
    assert left and not any(folder.exists() for folder in left)
    assert "is damaged: the content of Split-test/FeatureStats.pb has changed" in done.stdout
    assert not stages(root)["StatisticsGen"]["cached"] and stages(root)["ImageExampleGen"]["cached"]
    assert stages(root)["FeatureExtractor"]["cached"] and not stages(root)["Trainer"]["cached"]
    record = last_run(root)
    (resumed,) = (re.fullmatch(r"training resumed at step (\d+), .*", n) for n in record["notes"] if "resumed" in n)
    assert 60 <= int(resumed[1]) < 200 and f"note: {resumed[0]}" in done.stdout
    assert record["status"] == "refused" and record["pushed_model"] is None
    assert record["metrics"]["accuracy"]["baseline"] > record["metrics"]["accuracy"]["overall"]
    assert {"min"} <= {f["kind"] for f in record["failures"] if f["metric"] == "accuracy" and f["value"] < 0.999}
    assert "0.999" in done.stdout and "accuracy" in done.stdout
    assert (Path(pushed) / "saved_model.pb").is_file()


def test_past_failures_are_judged_and_people_decide_about_what_passed(root, pipeline, tmp_path):
    images, past = root / "digits" / "images", tmp_path / "past" / "8"
    past.mkdir(parents=True)
    for path in sorted((images / "8").iterdir())[:3]:
        shutil.copy(path, past)
    shutil.copy(next((images / "4").iterdir()), past / "four.png")  # which no good model takes for an 8
    (past / "none.png").write_text("no picture")
    served = last_run(root)["pushed_model"]
    given = (
        f"{SETTINGS} evaluation.regressions={past.parent} push.approval=required card.owner=us "
        f"notify='cat > {tmp_path}/told'"
    )

    done = pipeline("run", "--set", given, root=root)
    assert done.returncode == 3, done.stdout
    assert "class folders: 5 files in 1 classes" in done.stdout
    record = last_run(root)
    (failure,) = record["failures"]
    assert failure["stage"] == "ModelGate" and failure["images"] == ["8/four.png", "8/none.png"]
    assert "2 of 5 images" in failure["message"] and "none may be wrong" in failure["message"]
    assert json.loads((tmp_path / "told").read_text())["regressions"] == {"images": 5, "wrong": 2, "allowed": 0}

    given += " evaluation.max_regressions=2"
    done = pipeline("run", "--set", given, root=root)
    assert done.returncode == 0, done.stdout
    record = last_run(root)
    assert record["status"] == "waiting" and stages(root)["RegressionPredictor"]["cached"]
    version = Path(record["waiting"]).name
    assert f"make approve VERSION={version}" in re.sub(r"make -C \S+", "make", done.stdout)
    done = pipeline("approve", "--set", given, "--version", version, "--why", "seen", root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    record = last_run(root)
    assert record["status"] == "pushed" and Path(record["pushed_model"]).name == version > Path(served).name
    done = pipeline("run", "--set", given, root=root)
    assert done.returncode == 0 and "nothing has changed since" in done.stdout, done.stdout
    (past / "none.png").unlink()  # another set of past failures is another run
    assert "nothing has changed since" not in pipeline("run", "--set", given, "--to", "ModelGate", root=root).stdout


def test_predict_reads_what_was_pushed(cold, pipeline):
    root, _ = cold
    image = next((root / "digits" / "images" / "3").glob("*.png"))
    done = pipeline("predict", str(image), root=root)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["class"] in set("0123456789") and 0 < record["probability"] <= 1 and len(record["top_k"]) == 3


def test_production_is_monitored_where_only_the_pushed_folder_is(cold, pipeline, tmp_path):
    pushed = Path(last_run(cold[0])["pushed_model"])
    version = Path(shutil.copytree(pushed, tmp_path / "models" / pushed.name))
    threes = cold[0] / "digits" / "images" / "3"
    output = tmp_path / "found"
    done = pipeline("monitor", "--model", str(version), "--output", str(output), str(threes), root=tmp_path / "none")
    assert done.returncode == 3, done.stdout + done.stderr
    found = json.loads((output / "monitored.json").read_text())
    broken = [one["name"] for one in found["findings"] if one["state"] == "broken"]
    assert broken[0] == "predicted as 3" and set(broken) <= {f"predicted as {digit}" for digit in range(10)}
    (three,) = (one for one in found["classes"] if one["class_name"] == "3")
    assert found["images"] == 183 and three["estimated"]["low"] > 0.9 and not (tmp_path / "none").exists()
    assert (output / "label_next.csv").read_text().startswith("file_name,label,why,")


def test_what_is_no_digit_is_novel_to_the_model(cold, pipeline, tmp_path):
    root, _ = cold
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = random.integers(0, 256, (40, 30 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"noise {number}.png")
    done = pipeline("predict", *map(str, sorted(tmp_path.glob("*.png"))), root=root)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["novelty"] > 0.99 for line in done.stdout.splitlines())


def test_the_training_images_most_like_an_image_are_found(cold, pipeline, tmp_path):
    """Of digits of the train split the nearest are themselves; of the next ones, most have the same label."""
    root, _ = cold
    images = root / "digits" / "images"
    (tmp_path / "broken.png").write_bytes(b"no image")
    train = set(images.rglob("*.png")) - {images / p for p in tested(root)}
    asked = [str(next(p for p in sorted(train) if p.parent.name == digit)) for digit in "0123456789"]
    done = pipeline("similar", "--top", "4", *asked, str(tmp_path / "broken.png"), root=root)
    *found, broken = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 2 and broken["error"] and "1 of 11 images" in done.stderr
    assert [record["path"] for record in found] == asked
    for record in found:
        similarities = [one["similarity"] for one in record["similar"]]
        assert similarities == sorted(similarities, reverse=True) and len(similarities) == 4
    itself = [r["similar"][0] for r in found if r["similar"][0]["path"] == str(Path(r["path"]).relative_to(images))]
    assert len(itself) >= 7 and all(one["similarity"] > 0.99 for one in itself)  # the others are in eval
    same = [one["label"] == Path(r["path"]).parent.name for r in found for one in r["similar"][1:]]
    assert sum(same) / len(same) > 0.7


def test_a_class_that_the_schema_does_not_know_stops_the_run(root, pipeline):
    images = root / "digits" / "images"
    data = root / "other"
    for name in ("0", "1", "cat"):
        shutil.copytree(images / name.replace("cat", "2"), data / name)
    done = pipeline("run", "--data", str(data), root=root)
    assert done.returncode == 2, done.stdout
    assert "'cat'" in done.stdout and "schemas/digits.pbtxt" in done.stdout
    record = last_run(root)
    assert record["status"] == "failed" and record["exit_code"] == 2
    assert record["failures"][0]["stage"] == "ValidationGate"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "training.batch_sise=3"], "did you mean training.batch_size?"),
        (["--data", "/nowhere/photos"], "there is no folder /nowhere/photos"),
        (["--data", __file__], "test_run_local.py is a file; give a folder"),
        (["--config", "configs/none.yaml"], "cannot read the settings"),
        (["--weights", "/nowhere/w.h5"], "/nowhere/w.h5"),
    ],
)
def test_bad_input_is_told_before_anything_runs(arguments, said, tmp_path, pipeline):
    done = pipeline("run", *arguments, root=tmp_path / "build")
    assert done.returncode == 2
    assert said in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "build" / "digits" / "artifacts").exists()
    assert not (tmp_path / "build" / "digits" / "reports").exists()
