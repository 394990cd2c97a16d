"""A first span, a second one that arrives, nothing, and a damaged model: what is computed, started from and pushed."""

import json
import shutil
from pathlib import Path

import pytest

from components.ingestion.digits import write_digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = """
name: days
data:
  images: "{folder}/day-{{SPAN}}"
  window: 2
  schema: "{folder}/schema.pbtxt"
backbone: {{weights: random, image_size: 75}}
head: {{hidden_units: [32]}}
training: {{warm_start: latest_blessed, steps: 40, eval_every: 20, batch_size: 16}}
evaluation:
  slices: [label]
  thresholds: {{accuracy: {{min: 0.4, max_drop: 0.5}}}}
"""


def write_span(digits: Path, folder: Path, numbers: range) -> None:
    for label in ("0", "1", "7"):
        (folder / label).mkdir(parents=True)
        for path in sorted((digits / label).iterdir())[numbers.start : numbers.stop]:
            shutil.copy(path, folder / label)


def test_only_new_images_cost_and_the_last_blessed_model_is_where_training_starts(tmp_path, pipeline):
    def run(*overrides):
        options = [option for one in overrides for option in ("--set", one)]
        done = pipeline("run", "--config", str(tmp_path / "config.yaml"), *options, root=tmp_path / "build")
        return done.stdout, json.loads((tmp_path / "build" / "days" / "last_run.json").read_text())

    write_digits(str(tmp_path / "digits"))
    write_span(tmp_path / "digits", tmp_path / "day-1", range(40))
    write_span(tmp_path / "digits", tmp_path / "waiting", range(40, 55))
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path))
    _, first = run()
    shutil.move(tmp_path / "waiting", tmp_path / "day-2")
    _, second = run()
    Path(second["report"]).unlink()  # or the run would stand, and no stage look for what it needs
    said, again = run()
    assert "nothing has changed" not in said
    variables = next((Path(again["model"]) / "variables").glob("variables.data*"))
    variables.write_bytes(variables.read_bytes()[:-1000])
    said, damaged = run("training.steps=41")

    assert [record["status"] for record in (first, second, again)] == ["pushed"] * 3
    assert f"from the 3 classes in {tmp_path} (" in (tmp_path / "schema.pbtxt").read_text(), (
        "kept when the first passed"
    )
    assert [[span["span"] for span in record["spans"]] for record in (first, second, again)] == [[1], [1, 2], [1, 2]]
    read = [record["images"]["read"] for record in (first, second)]
    assert first["images"]["computed"] == read[0] and first["images"]["reused"] == 0
    assert second["images"]["computed"] == read[1] - read[0]
    assert second["images"]["reused"] == read[0]

    assert first["warm_start"] is None
    assert second["warm_start"]["model"] == str(Path(first["model"]).parent)
    assert second["warm_start"]["head"] == "kept"
    assert first["metrics"]["accuracy"]["baseline"] is None
    assert second["metrics"]["accuracy"]["baseline"] is not None
    assert second["pushed_model"] != first["pushed_model"]

    looked = {"Baseline", "DataBaseline", "EarlierFeatures", "LastBlessed", "Pusher"}  # at what there is, each time
    assert {stage["id"] for stage in again["stages"] if not stage["cached"]} == looked
    assert again["pushed_model"] == second["pushed_model"]

    assert damaged["status"] == "pushed" and damaged["pushed_model"] != again["pushed_model"]
    assert any(" is damaged: " in note for note in damaged["notes"]) and " is damaged: " in said
    assert damaged["warm_start"]["model"] == str(Path(first["model"]).parent)  # the blessed one before it
    assert damaged["metrics"]["accuracy"]["baseline"] is not None
