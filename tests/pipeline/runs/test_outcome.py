import json

import pytest

from pipeline.runs import outcome
from pipeline.runs.lineage import NodeRun, Output

EXPECTED = ["ImageExampleGen", "BackboneImporter", "ModelGate", "ServingCheck", "Pusher"]
COUNTED = ("found", "ignored", "rejected", "read", "train", "eval", "test", "duplicates")
FAILURE = {
    "metric": "accuracy",
    "slice": "label=roses",
    "value": 0.4,
    "low": 0.3,
    "high": 0.5,
    "bound": 0.7,
    "kind": "min",
    "examples": 40,
    "p": 0.01,
    "mistakes": 24,
    "images": ["roses/1.jpg"],
    "message": "too low",
}


@pytest.fixture
def nodes(tmp_path):
    """A run that pushed, as its nodes left it."""

    def node(name, key, properties=None, **files):
        uri = tmp_path / name
        for path, content in files.items():
            target = uri / path.replace("__", "/").replace("_json", ".json")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(content))
        return NodeRun(name, "complete", {key: [Output(1, str(uri), properties or {})]})

    counts = dict(zip(COUNTED, (12, 1, 1, 10, 8, 1, 1, 2), strict=True))
    record = {"weights": "imagenet", "source": "random", "random": True, "sha256": "ab", "image_size": 75}
    verdict = {
        "schema_version": 1, "blessed": True, "confidence": 0.95, "on_doubt": "pass", "not_compared": "no baseline",
        "overall": {
            "slice": "overall", "examples": 10, "metrics": {"accuracy": {"value": 0.9, "low": 0.6, "high": 1.0}},
            "baseline": None, "change": None, "classes": [], "confusions": [],
        },
        "slices": [], "judged": [], "failures": [], "notes": ["no baseline"],
    }  # fmt: skip
    runs = [
        node("ImageExampleGen", "rejects", counts_json=counts | {"layout": "class_folders"}),
        node("ValidationGate", "verdict", data_gate_json={"notes": ["2 pictures show the same as another"]}),
        node("BackboneImporter", "backbone", **{"Format-Serving__backbone_json": record}),
        node("ModelGate", "blessing", {"blessed": 1}, gate_json=verdict),
        node("ServingCheck", "blessing", {"blessed": 1}),
        node("Pusher", "pushed_model", {"pushed": 1, "pushed_destination": "/serving/7"}),
    ]
    return {run.id: run for run in runs}


def test_a_run_whose_model_was_pushed(nodes):
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("pushed", 0, "/serving/7")
    assert found.images == dict(zip(COUNTED, (12, 1, 1, 10, 8, 1, 1, 2), strict=True))
    assert "2 pictures show the same as another" in found.notes
    assert found.metrics == {"accuracy": {"overall": 0.9, "low": 0.6, "high": 1.0, "baseline": None, "change": None}}


def test_a_base_that_fell_back_to_random_weights_is_told(nodes):
    notes = outcome.from_nodes(nodes, EXPECTED, "/root").notes
    assert any("the base is RANDOM" in note and "'imagenet'" in note for note in notes)


def test_what_training_has_to_say_of_the_data_is_told(nodes, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training_summary.json").write_text('{"notes": ["few training images: rose 3"]}')
    nodes["Trainer"] = NodeRun("Trainer", "complete", {"model_run": [Output(1, str(tmp_path / "run"), {})]})
    assert "few training images: rose 3" in outcome.from_nodes(nodes, EXPECTED, "/root").notes


def test_what_a_search_found_is_told_by_the_settings_it_belongs_in(nodes, tmp_path):
    assert outcome.from_nodes(nodes, EXPECTED, "/root").tuning is None
    files = {
        "best_hyperparameters": ("best_hyperparameters.txt", {"values": {"hidden_units": "64-32", "l2": 0.1}}),
        "tuner_results": ("tuner_results.json", [{"score": 0.5}, {"score": 0.6}]),
    }
    outputs = {}
    for key, (name, content) in files.items():
        (tmp_path / key).mkdir()
        (tmp_path / key / name).write_text(json.dumps(content))
        outputs[key] = [Output(1, str(tmp_path / key), {})]
    nodes["Tuner"] = NodeRun("Tuner", "complete", outputs)
    assert outcome.from_nodes(nodes, EXPECTED, "/root").tuning == {
        "trials": 2,
        "best": {"head.hidden_units": [64, 32], "head.l2": 0.1},
    }


def test_a_model_that_the_gate_refused(nodes, tmp_path):
    gate = tmp_path / "ModelGate" / "gate.json"
    gate.write_text(json.dumps({**json.loads(gate.read_text()), "failures": [FAILURE]}))
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("refused", 3, None)
    assert found.failures == [FAILURE]


def test_a_model_that_the_serving_check_refused(nodes):
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    nodes["ServingCheck"].outputs["blessing"][0].properties.update(blessed=0, reason="it crashed")
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert found.exit_code == 3
    assert found.failures == [{"message": "serving check: it crashed", "stage": "ServingCheck"}]


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_component_that_failed_in_the_metadata_is_a_failure_though_the_runner_said_nothing(nodes, state):
    nodes["ServingCheck"] = NodeRun("ServingCheck", state, {})
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("failed", 1, "/serving/7")
    assert found.failures[-1]["stage"] == "ServingCheck"


def test_a_run_that_never_reached_a_node_is_a_failure(nodes):
    del nodes["Pusher"]
    assert outcome.from_nodes(nodes, EXPECTED, "/root").status == "failed"


def test_the_record_is_replaced_in_one_step(nodes, tmp_path):
    path = tmp_path / "last_run.json"
    path.write_text("old")
    outcome.from_nodes(nodes, EXPECTED, "/root").write(path)
    assert json.loads(path.read_text())["status"] == "pushed"
    assert [p.name for p in tmp_path.glob("last_run*")] == ["last_run.json"]


def test_which_spans_were_read(nodes):
    read = [{"span": 3, "version": None, "folder": "day-3"}]
    nodes["ImageExampleGen"].outputs["examples"] = [Output(2, "/examples", {"spans": json.dumps(read)})]
    assert outcome.from_nodes(nodes, EXPECTED, "/root").spans == read


@pytest.mark.parametrize(("state", "counts"), [("complete", (4, 5)), ("cached", (0, 9))])
def test_how_many_images_went_through_the_network_in_this_run(nodes, tmp_path, state, counts):
    (tmp_path / "features.json").write_text('{"cut": "pooled"}')
    output = Output(3, str(tmp_path), {"images_computed": 4, "images_reused": 5})
    nodes["FeatureExtractor"] = NodeRun("FeatureExtractor", state, {"features": [output]})
    images = outcome.from_nodes(nodes, EXPECTED, "/root").images
    assert (images["computed"], images["reused"]) == counts


def test_what_was_not_warm_started_is_told(nodes, tmp_path):
    began = {"model": "/models/7", "head": "rebuilt", "base_layers": 4, "why_not": "the classes changed"}
    (tmp_path / "training_summary.json").write_text(json.dumps({"warm_start": began}))
    nodes["Trainer"] = NodeRun("Trainer", "complete", {"model_run": [Output(4, str(tmp_path), {})]})
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert found.warm_start == began
    assert "warm start from /models/7: its head was not taken, the classes changed" in found.notes
