"""ModelGate on what TFX's Evaluator really writes, for tiny models that are right, or wrong, about every image."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from components.model_gate import ModelGate, read_evaluation
from pipeline.evaluation import METRICS, eval_config
from tests.model_factory import COLOURS, example, image_bytes, save_model, write_examples

COUNTS = {"red": 6, "green": 3, "blue": 1}


def artifact(kind: type, uri: Path, number: int):
    made = kind()
    made.uri, made.id = str(uri), number
    return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A right and a wrong model, ten examples, and the Evaluator's output for the wrong one against the right one."""
    root = tmp_path_factory.mktemp("gate")
    right = artifact(Model, root / "right", 11)
    wrong = artifact(Model, root / "wrong", 12)
    for model, certainty in ((right, 10.0), (wrong, -10.0)):
        Path(model.uri).mkdir()
        save_model(Path(model.uri) / "Format-Serving", certainty=certainty)
    examples = artifact(Examples, root / "examples", 1)
    examples.split_names = artifact_utils.encode_split_names(["test"])
    labelled = [
        example(image_bytes(COLOURS.index(label), seed=i), label, brightness="dark" if i == 0 else "bright")
        for label, count in COUNTS.items()
        for i in range(count)
    ]
    write_examples(root / "examples", "test", labelled)
    both = evaluate(root / "both", examples, wrong, right, ["label", "label*brightness"])
    return {"right": right, "wrong": wrong, "examples": examples, "both": both}


def evaluate(folder: Path, examples: Examples, model: Model, baseline: Model | None, slices: list[str]):
    """Runs the Evaluator's executor as the pipeline would."""
    evaluation = artifact(ModelEvaluation, folder, 20)
    given = {"model": [model], "examples": [examples]} | ({"baseline_model": [baseline]} if baseline else {})
    config = json_format.MessageToJson(eval_config(slices), preserving_proto_field_name=True)
    Executor().Do(
        given,
        {"evaluation": [evaluation], "blessing": [artifact(ModelBlessing, folder / "unused", 21)]},
        {"eval_config": config, "example_splits": '["test"]', "fairness_indicator_thresholds": "null"},
    )
    return evaluation


def gate(folder: Path, evaluation, bounds: dict, **models: Model) -> tuple[ModelBlessing, dict]:
    blessing = artifact(ModelBlessing, folder / "blessing", 30)
    ModelGate.test_call(evaluation=evaluation, blessing=blessing, bounds=json.dumps(bounds), **models)
    return blessing, json.loads((folder / "blessing" / "gate.json").read_text())


@pytest.mark.slow
def test_everything_measured_is_read_back(inputs: dict) -> None:
    candidate, baseline = read_evaluation(inputs["both"].uri)
    assert baseline is not None

    candidates, baselines = ({m.slice: m for m in models} for models in (candidate, baseline))
    assert set(candidates) == set(baselines)
    assert {name: m.examples for name, m in candidates.items()} == {
        "overall": 10,
        "label=red": 6,
        "label=green": 3,
        "label=blue": 1,
        "label=red, brightness=dark": 1,
        "label=green, brightness=dark": 1,
        "label=blue, brightness=dark": 1,
        "label=red, brightness=bright": 5,
        "label=green, brightness=bright": 2,
    }
    assert all(set(m.metrics) == set(METRICS) for m in (*candidate, *baseline))
    assert all(m.metrics["accuracy"] == 0 and m.metrics["top_3_accuracy"] == 1 for m in candidate)
    assert all(m.metrics["accuracy"] == 1 and m.metrics["cross_entropy"] < 0.01 for m in baseline)


@pytest.mark.slow
def test_a_model_worse_than_its_baseline_is_refused(inputs: dict, tmp_path: Path) -> None:
    blessing, report = gate(
        tmp_path,
        inputs["both"],
        {"thresholds": {"accuracy": {"max_drop": 0.01}}, "per_slice": {"accuracy": {"min": 0.5, "min_examples": 6}}},
        model=inputs["wrong"],
        baseline_model=inputs["right"],
    )

    assert not report["blessed"]
    assert [(f["slice"], f["kind"]) for f in report["failures"]] == [
        ("overall", "max_drop"),
        ("label=red", "per_slice_min"),
    ]
    assert report["metrics"]["accuracy"] == {"overall": 0.0, "baseline": 1.0}
    assert {"slice", "examples", "metrics", "baseline"} == set(report["slices"][0])
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("current_model") == inputs["wrong"].uri
    assert blessing.get_int_custom_property("current_model_id") == 12
    assert blessing.get_string_custom_property("baseline_model") == inputs["right"].uri
    assert blessing.get_int_custom_property("baseline_model_id") == 11
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["NOT_BLESSED", "gate.json"]


@pytest.mark.slow
def test_the_first_model_is_judged_by_itself(inputs: dict, tmp_path: Path) -> None:
    alone = evaluate(tmp_path / "alone", inputs["examples"], inputs["right"], None, ["label"])

    blessing, report = gate(
        tmp_path, alone, {"thresholds": {"accuracy": {"min": 0.9, "max_drop": 0.01}}}, model=inputs["right"]
    )

    assert report["blessed"], report
    assert report["metrics"]["accuracy"] == {"overall": 1.0, "baseline": None}
    assert [(s["slice"], s["examples"], s["baseline"]) for s in report["slices"]] == [
        ("label=blue", 1, None),
        ("label=green", 3, None),
        ("label=red", 6, None),
    ]
    (note,) = report["notes"]
    assert note.startswith("max_drop of accuracy does not apply: there is no blessed model to compare with")
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("current_model_id") == 11
    assert not blessing.has_custom_property("baseline_model_id")
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["BLESSED", "gate.json"]
