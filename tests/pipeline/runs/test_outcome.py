import dataclasses

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from core.artifacts import backbone, features, ingest_record, last_run, search, training_summary, validation, verdict
from core.artifacts.ingest_record import Span
from core.artifacts.last_run import LAST_RUN, Outcome
from core.artifacts.verdict import Range
from core.errors import InputError, cause_of
from core.examples import IMAGE
from pipeline.runs import outcome
from pipeline.runs.lineage import NodeRun, Output
from tests.training_records import BACKBONE, SUMMARY

EXPECTED = ["ImageExampleGen", "BackboneImporter", "ModelGate", "ServingCheck", "Pusher"]
COUNTS = ingest_record.IngestCounts(
    13, 1, 1, 1, 10, {"train": 8, "eval": 1, "test": 1}, duplicates=2, layout="class_folders", given=[], classes={}
)
OVERALL = verdict.SliceMetrics("overall", 10, {"accuracy": Range(0.9, 0.8, 0.95)}, None, None, [], [])
VERDICT = verdict.Verdict(True, 0.95, "pass", "no baseline", OVERALL, [], [], [], ["no baseline"])
FAILURE = verdict.Failure(
    "thresholds.accuracy.min", "accuracy", "label=roses",
    0.4, 0.3, 0.5, 0.7, "min", 10, 0.01, 6, ["roses/1.png"], "too low"
)  # fmt: skip
DATA_VERDICT = validation.DataVerdict(["2 images are the same"], [])
FEATURES = features.Features("pooled", (), (8,), 75, "ab", "", None, {})


@pytest.fixture
def nodes(tmp_path):
    """A run that pushed, as its nodes left it."""

    def node(name, key, file=None, content=None, **properties):
        folder = tmp_path / name
        (folder / "Format-Serving").mkdir(parents=True)
        if file:
            file.write(folder / "Format-Serving" if name == "BackboneImporter" else folder, content)
        return NodeRun(name, "complete", {key: [Output(1, str(folder), properties)]})

    runs = [
        node("ImageExampleGen", "rejects", ingest_record.COUNTS, COUNTS),
        node("ValidationGate", "verdict", validation.DATA_VERDICT, DATA_VERDICT),
        node("BackboneImporter", "backbone", backbone.RECORD, BACKBONE),
        node("ModelGate", "blessing", verdict.VERDICT, VERDICT, blessed=1),
        node("ServingCheck", "blessing", blessed=1),
        node("Pusher", "pushed_model", pushed=1, pushed_destination="/serving/7"),
    ]
    return {run.id: run for run in runs}


def trained(nodes, folder, **changes):
    """Adds a Trainer with that summary."""
    training_summary.SUMMARY.write(folder, dataclasses.replace(SUMMARY, **changes))
    nodes["Trainer"] = NodeRun("Trainer", "complete", {"model_run": [Output(4, str(folder), {})]})


def test_the_outcome_of_a_run_with_a_pushed_model(nodes):
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("pushed", 0, "/serving/7")
    assert found.images == last_run.Images(13, 1, 1, 1, 10, 8, 1, 1, 2)
    assert "2 images are the same" in found.notes
    assert found.metrics == {"accuracy": last_run.Metric(0.9, 0.8, 0.95, None, None)}
    assert (found.backbone.weights, found.backbone.sha256, found.backbone.cut) == ("random", "ab", None)


def test_stages_that_judge_say_what_they_object_to(nodes, tmp_path):
    for name in nodes:
        assert outcome.objection(nodes, name) is None
    refused = dataclasses.replace(VERDICT, blessed=False, failures=[FAILURE, FAILURE])
    verdict.VERDICT.write(tmp_path / "ModelGate", refused)
    assert outcome.objection(nodes, "ModelGate") == "too low; too low"
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    assert outcome.objection(nodes, "Pusher") == "nothing pushed"
    for name, properties, why in (
        ("ServingCheck", {"blessed": 0, "reason": "process: hangs"}, "process: hangs"),
        ("InfraValidator", {"blessed": 0}, "TensorFlow Serving did not load the model"),
    ):
        nodes[name] = NodeRun(name, "cached", {"blessing": [Output(1, "/none", properties)]})
        assert outcome.objection(nodes, name).startswith(why)


def test_anomalies_are_an_objection_of_the_split_that_has_them(nodes, tmp_path):
    folder = tmp_path / "anomalies"
    for split, severities in (("train", {}), ("eval", {"label": "ERROR", "width": "WARNING", IMAGE: "ERROR"})):
        found = anomalies_pb2.Anomalies()
        for name, severity in severities.items():
            found.anomaly_info[name].severity = anomalies_pb2.AnomalyInfo.Severity.Value(severity)
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "SchemaDiff.pb").write_bytes(found.SerializeToString())
    left = Output(3, str(folder), {"split_names": '["train", "eval"]'})
    nodes["ExampleValidator"] = NodeRun("ExampleValidator", "complete", {"anomalies": [left]})
    assert outcome.objection(nodes, "ExampleValidator") == "anomalies in eval: label"


def test_metrics_of_a_model_that_was_compared(nodes, tmp_path):
    change = {"accuracy": Range(0.1, 0.05, 0.15), "loss": None}
    metrics = {"accuracy": Range(0.9, 0.8, 0.95), "loss": Range(0.3)}
    overall = dataclasses.replace(OVERALL, metrics=metrics, baseline=metrics, change=change)
    verdict.VERDICT.write(tmp_path / "ModelGate", dataclasses.replace(VERDICT, overall=overall))
    found = outcome.from_nodes(nodes, EXPECTED, "/root").metrics
    assert found["accuracy"] == last_run.Metric(0.9, 0.8, 0.95, 0.9, Range(0.1, 0.05, 0.15))
    assert found["loss"] == last_run.Metric(0.3, None, None, 0.3, None)


def test_a_base_that_fell_back_to_random_weights_is_noted(nodes):
    notes = outcome.from_nodes(nodes, EXPECTED, "/root").notes
    assert any("the base is RANDOM" in note and "'imagenet'" in note for note in notes)


def test_what_training_has_to_say_of_the_data_is_noted(nodes, tmp_path):
    trained(nodes, tmp_path, notes=["few training images: rose 3"])
    assert "few training images: rose 3" in outcome.from_nodes(nodes, EXPECTED, "/root").notes


def test_what_a_search_found_is_given_by_the_settings_it_belongs_in(nodes, tmp_path):
    assert outcome.from_nodes(nodes, EXPECTED, "/root").tuning is None
    (tmp_path / "best_hyperparameters.txt").write_text('{"values": {"hidden_units": "64-32", "l2": 0.1}}')
    (tmp_path / "tuner_results.json").write_text('[{"score": 0.5}, {"score": 0.6}]')
    left = [Output(1, str(tmp_path), {})]
    nodes["Tuner"] = NodeRun("Tuner", "complete", {search.BEST.output: left, search.TRIALS.output: left})
    found = outcome.from_nodes(nodes, EXPECTED, "/root").tuning
    assert found == last_run.Tuning(2, {"head.hidden_units": [64, 32], "head.l2": 0.1})
    trained(nodes, tmp_path, chosen={"training.learning_rate": {"values": [0.1, 0.01], "boundaries": [5]}})
    found = outcome.from_nodes(nodes, EXPECTED, "/root").tuning
    assert found.best == {"training.learning_rate": {"values": [0.1, 0.01], "boundaries": [5]}}


def test_a_model_that_the_gate_refused(nodes, tmp_path):
    verdict.VERDICT.write(tmp_path / "ModelGate", dataclasses.replace(VERDICT, failures=[FAILURE]))
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("refused", 3, None)
    assert found.failures == [last_run.Failure(**dataclasses.asdict(FAILURE))]


def test_a_model_that_does_not_show_the_precision_wanted_is_refused_by_the_gate(nodes, tmp_path):
    judged = dataclasses.replace(VERDICT, blessed=False, abstention="abstain.precision is 0.95, and …")
    verdict.VERDICT.write(tmp_path / "ModelGate", judged)
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code) == ("refused", 3)
    assert found.failures == [last_run.Failure(judged.abstention, stage="ModelGate")]
    assert outcome.objection(nodes, "ModelGate") == judged.abstention


def test_a_model_that_the_serving_check_refused(nodes):
    nodes["Pusher"].outputs["pushed_model"][0].properties.update(pushed=0)
    nodes["ServingCheck"].outputs["blessing"][0].properties.update(blessed=0, reason="it crashed")
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert found.exit_code == 3
    assert found.failures == [last_run.Failure("serving check: it crashed", stage="ServingCheck")]


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_component_that_failed_in_the_metadata_is_a_failure_though_the_runner_said_nothing(nodes, state):
    nodes["ServingCheck"] = NodeRun("ServingCheck", state, {})
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("failed", 1, "/serving/7")
    assert found.failures[-1].stage == "ServingCheck"


def test_a_run_that_never_reached_a_node_is_a_failure(nodes):
    del nodes["Pusher"]
    assert outcome.from_nodes(nodes, EXPECTED, "/root").status == "failed"


def test_what_cannot_be_read_is_noted_and_hides_neither_the_push_nor_the_rest(nodes, tmp_path):
    (tmp_path / "ModelGate" / "gate.json").write_text("{")
    (tmp_path / "ImageExampleGen" / "counts.json").unlink()
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.status, found.exit_code, found.pushed_model) == ("pushed", 0, "/serving/7")
    assert found.metrics == {} and found.images is None and found.backbone is not None
    for node, file in (("ModelGate", "gate.json"), ("ImageExampleGen", "counts.json")):
        assert any(note.startswith(f"cannot read what {node} left: ") and file in note for note in found.notes)


def test_the_record_is_replaced_in_one_step_and_read_as_it_was_written(nodes, tmp_path):
    (tmp_path / "last_run.json").write_text("old")
    trained(nodes, tmp_path, warm_start=training_summary.WarmStart("/models/7", "kept", 4, None, None))
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    found.stages.append(last_run.Stage("Trainer", 1.5, None, cached=False))
    LAST_RUN.write(tmp_path, found)
    assert LAST_RUN.read(tmp_path) == found
    assert [p.name for p in tmp_path.glob("last_run*")] == ["last_run.json"]


def test_which_spans_were_read(nodes):
    read = [Span(3, None, "day-3")]
    properties = {"spans": ingest_record.spans_property(read)}
    nodes["ImageExampleGen"].outputs["examples"] = [Output(2, "/examples", properties)]
    assert outcome.from_nodes(nodes, EXPECTED, "/root").spans == read


@pytest.mark.parametrize(("state", "counts"), [("complete", (4, 5)), ("cached", (0, 9))])
def test_how_many_images_went_through_the_network_in_this_run(nodes, tmp_path, state, counts):
    features.FEATURES_FILE.write(tmp_path, FEATURES)
    output = Output(3, str(tmp_path), {"images_computed": 4, "images_reused": 5})
    nodes["FeatureExtractor"] = NodeRun("FeatureExtractor", state, {"features": [output]})
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert (found.images.computed, found.images.reused) == counts
    assert found.backbone.cut == "pooled"


def test_what_was_not_warm_started_is_noted(nodes, tmp_path):
    began = training_summary.WarmStart("/models/7", "rebuilt", 4, "the classes changed", None)
    trained(nodes, tmp_path, warm_start=began)
    found = outcome.from_nodes(nodes, EXPECTED, "/root")
    assert found.warm_start == began
    assert "warm start from /models/7: its head was not taken, the classes changed" in found.notes


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("3 files cannot be read [while running 'Read']"), 2, "3 files cannot be read"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_failed_run_gets_the_exit_code_and_message_of_its_cause(error, code, said):
    try:
        raise RuntimeError("the runner's own words") from error
    except RuntimeError as wrapped:
        cause = cause_of(wrapped if code == 2 else error)
    less = last_run.Failure("ImageExampleGen did not complete", stage="ImageExampleGen")
    found = Outcome("failed", 1, "/root", failures=[less])
    outcome.mark_failed(found, cause, "ImageExampleGen")
    assert found.exit_code == code
    assert found.failures == [last_run.Failure(said, stage="ImageExampleGen")]
