"""ModelGate on what Predictor and TFX's Evaluator really write, for tiny models that are right, or wrong."""

import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from google.protobuf import json_format
from sklearn import metrics as sklearn_metrics
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from components import predictor
from components.evaluation.calibration import calibration
from components.evaluation.class_means import class_means
from components.evaluation.eval_config import METRICS, eval_config
from components.evaluation.measures import MEANS, columns, resample
from components.evaluator import Executor
from components.model_gate import ModelGate, read_evaluation
from core.artifacts.predictions import BASELINE, CANDIDATE, PREDICTIONS_FILE, SCORES_FILE, in_order, read_predictions
from tests.model_factory import COLOURS, example, image_bytes, save_model, write_examples

COUNTS = {"red": 12, "green": 6, "blue": 2}


def artifact(kind: type, uri: Path, number: int):
    made = kind()
    made.uri, made.id = str(uri), number
    return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A right and a wrong model, twenty examples, and all that is known of the wrong one against the right one."""
    root = tmp_path_factory.mktemp("gate")
    right = artifact(Model, root / "right", 11)
    wrong = artifact(Model, root / "wrong", 12)
    for model, certainty in ((right, 10.0), (wrong, -2.0)):
        Path(model.uri).mkdir()
        save_model(Path(model.uri) / "Format-Serving", certainty=certainty)
    examples = artifact(Examples, root / "examples", 1)
    examples.split_names = artifact_utils.encode_split_names(["test"])
    labelled = [
        # Every fifth label is wrong, so that no metric is trivial.
        example(
            image_bytes((COLOURS.index(label) + (i % 5 == 4)) % 3, seed=i),
            label,
            brightness="dark" if i == 0 else "bright",
        )
        for label, count in COUNTS.items()
        for i in range(count)
    ]
    write_examples(root / "examples", "test", labelled)
    made = {"right": right, "wrong": wrong, "examples": examples}
    return made | measure(root / "both", made, "wrong", "right", ["label", "label*brightness"])


def measure(folder: Path, inputs: dict, model: str, baseline: str | None, slices: list[str]) -> dict:
    """Runs Predictor and the Evaluator's executor as the pipeline would."""
    folder.mkdir()
    predictions = artifact(predictor.Predictions, folder / "predictions", 18)
    answers = artifact(Examples, folder / "answers", 19)
    evaluation = artifact(ModelEvaluation, folder / "evaluation", 20)
    predictor.Predictor.test_call(
        model=inputs[model],
        baseline_model=inputs[baseline] if baseline else None,
        examples=inputs["examples"],
        predictions=predictions,
        answers=answers,
        beam_pipeline=beam.Pipeline(),
    )
    config = json_format.MessageToJson(eval_config(slices, 3), preserving_proto_field_name=True)
    Executor().Do(
        {"model": [inputs[model]], "examples": [answers], "baseline_model": [inputs["right"]]},
        {"evaluation": [evaluation], "blessing": [artifact(ModelBlessing, folder / "unused", 21)]},
        {"eval_config": config, "example_splits": '["test"]', "fairness_indicator_thresholds": "null"},
    )
    return {"predictions": predictions, "evaluation": evaluation}


def gate(folder: Path, inputs: dict, bounds: dict, **models: Model) -> tuple[ModelBlessing, dict]:
    blessing = artifact(ModelBlessing, folder / "blessing", 30)
    ModelGate.test_call(
        evaluation=inputs["evaluation"],
        predictions=inputs["predictions"],
        blessing=blessing,
        bounds=json.dumps(bounds),
        **models,
    )
    return blessing, json.loads((folder / "blessing" / "gate.json").read_text())


@pytest.mark.slow
def test_tfma_measures_every_slice_of_both_models_as_scikit_learn_does(inputs: dict) -> None:
    candidate, baseline = read_evaluation(inputs["evaluation"].uri)
    assert baseline is not None
    candidates, baselines = ({m.slice: m for m in models} for models in (candidate, baseline))
    assert set(candidates) == set(baselines)
    assert {name: m.examples for name, m in candidates.items()} == {
        "overall": 20,
        "label=red": 12,
        "label=green": 6,
        "label=blue": 2,
        "label=red, brightness=dark": 1,
        "label=green, brightness=dark": 1,
        "label=blue, brightness=dark": 1,
        "label=red, brightness=bright": 11,
        "label=green, brightness=bright": 5,
        "label=blue, brightness=bright": 1,
    }
    assert all(set(METRICS) <= set(m.metrics) for m in (*candidate, *baseline))

    with (Path(inputs["predictions"].uri) / PREDICTIONS_FILE).open() as file:
        answers = [(p.label, p.predicted, p.baseline.predicted) for p in read_predictions(file) if p.baseline]
    labels, now, before = zip(*answers, strict=True)
    for measured, told in ((candidates["overall"], now), (baselines["overall"], before)):
        np.testing.assert_array_equal(
            measured.confusion, sklearn_metrics.confusion_matrix(labels, told, labels=list(COLOURS))
        )
        for kind in ("macro", "weighted"):
            precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
                labels, told, average=kind, zero_division=0
            )
            found = [measured.metrics[f"{kind}_{name}"] for name in ("precision", "recall", "f1")]
            assert found == pytest.approx([precision, recall, f1])
        assert measured.metrics["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, told))


@pytest.mark.slow
def test_means_of_areas_are_over_the_classes_of_a_slice(inputs: dict) -> None:
    by_slice = {m.slice: m for m in read_evaluation(inputs["evaluation"].uri)[0]}

    overall = by_slice["overall"]
    assert len(overall.auc) == 3 and all(0 <= area <= 1 for area in overall.auc)
    assert overall.metrics["macro_auc"] == pytest.approx(np.mean(overall.auc))
    assert overall.metrics["weighted_auc"] == pytest.approx(np.average(overall.auc, weights=[12, 6, 2]))
    assert np.isnan(by_slice["label=red"].auc).all()  # no images of others to tell them from


@pytest.mark.slow
def test_what_intervals_are_drawn_around_are_the_values_tfma_measured(inputs: dict) -> None:
    """Two programs must agree about them, on every slice."""
    candidate, baseline = read_evaluation(inputs["evaluation"].uri)
    with (Path(inputs["predictions"].uri) / PREDICTIONS_FILE).open() as file:
        predictions = in_order(read_predictions(file))
    with np.load(Path(inputs["predictions"].uri) / SCORES_FILE) as arrays:
        scores = dict(arrays)
    for models, baseline_too in ((candidate, False), (baseline or [], True)):
        for measured in models:
            places = [n for n, p in enumerate(predictions) if measured.slice == "overall" or p.is_in(measured.slice)]
            inside = [predictions[n] for n in places]
            answers = [p.baseline if baseline_too and p.baseline else p.answer for p in inside]
            bins = scores[BASELINE if baseline_too else CANDIDATE][places]
            found = columns([p.label for p in inside], answers, {name: i for i, name in enumerate(COLOURS)}, bins)
            means = class_means(found)
            assert set(means) == set(MEANS) or len(np.unique(found.label)) == 1  # areas take two classes
            values = {name: r.value for name, r in (resample([found])[0] | means).items()}
            values["expected_calibration_error"] = calibration(found).value
            assert values == pytest.approx({name: measured.metrics[name] for name in values}, abs=1e-5), measured.slice
            for name in ("accuracy", "top_3_accuracy"):
                assert found.successes(name).mean() == pytest.approx(measured.metrics[name], abs=1e-6)


@pytest.mark.slow
def test_a_model_worse_than_its_baseline_is_refused(inputs: dict, tmp_path: Path) -> None:
    blessing, report = gate(
        tmp_path,
        inputs,
        {"thresholds": {"accuracy": {"max_drop": 0.01}}, "per_slice": {"accuracy": {"min": 0.7, "min_examples": 12}}},
        model=inputs["wrong"],
        baseline_model=inputs["right"],
    )

    assert not report["blessed"]
    assert [(f["slice"], f["kind"]) for f in report["failures"]] == [
        ("overall", "max_drop"),
        ("label=red", "per_slice_min"),
    ]
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["overall"] < 0.3 and accuracy["baseline"] == pytest.approx(0.85)
    red = next(s for s in report["slices"] if s["slice"] == "label=red")
    assert {"slice", "examples", "metrics", "baseline", "change", "classes", "confusion"} == set(red)
    assert sum(entry["examples"] for entry in red["confusion"]) == red["examples"]
    assert {entry["class"] for entry in red["confusion"]} == {"red"}
    assert [c["class"] for c in report["classes"]] == list(COLOURS)
    assert {"precision", "recall", "f1", "auc"} == set(report["classes"][0]["metrics"])
    assert report["confusion"]["classes"] == list(COLOURS) and np.sum(report["confusion"]["counts"]) == 20
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("current_model") == inputs["wrong"].uri
    assert blessing.get_int_custom_property("current_model_id") == 12
    assert blessing.get_string_custom_property("baseline_model") == inputs["right"].uri
    assert blessing.get_int_custom_property("baseline_model_id") == 11
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["NOT_BLESSED", "gate.json"]


@pytest.mark.slow
def test_where_the_baseline_gave_no_answers_the_model_is_judged_by_itself(inputs: dict, tmp_path: Path) -> None:
    """TFX would hand the baseline to TFMA whatever became of it."""
    alone = measure(tmp_path / "alone", inputs, "right", None, ["label"])

    blessing, report = gate(
        tmp_path, alone, {"thresholds": {"accuracy": {"min": 0.5, "max_drop": 0.01}}}, model=inputs["right"]
    )

    assert report["blessed"], report
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["overall"] == pytest.approx(0.85) and accuracy["baseline"] is None
    assert [(s["slice"], s["examples"], s["baseline"]) for s in report["slices"]] == [
        ("label=blue", 2, None),
        ("label=green", 6, None),
        ("label=red", 12, None),
    ]
    assert report["notes"] == ["max_drop of accuracy does not apply: there is no blessed model yet"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("current_model_id") == 11
    assert not blessing.has_custom_property("baseline_model_id")
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["BLESSED", "gate.json"]
