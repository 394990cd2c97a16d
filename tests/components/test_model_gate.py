"""ModelGate on what Predictor and TFX's Evaluator really write, for tiny models that are right, or wrong."""

import dataclasses
import json
import logging
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from google.protobuf import json_format
from sklearn import metrics as sklearn_metrics
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model, ModelBlessing, ModelEvaluation, ModelRun

from components import predictor
from components.evaluation import slicing
from components.evaluation.eval_config import eval_config
from components.evaluation.metrics import Estimates
from components.evaluation.predictions import Predictions, columns, confusion
from components.evaluator import Executor
from components.model_gate import ModelGate, read_evaluation
from core import progress
from core.artifacts import training_summary
from core.artifacts.monitoring import REFERENCE, MonitoringConfig
from core.artifacts.predictions import BASELINE, CANDIDATE, read_predictions, read_scores
from core.artifacts.training_summary import Abstention
from core.artifacts.verdict import VERDICT, Verdict
from core.metrics import FRACTIONS, LOSS, METRICS
from core.settings.converter import from_json, to_json
from core.settings.evaluation import EvaluationSettings
from core.settings.monitoring import MonitoringSettings
from tests.model_factory import COLORS, example, image_bytes, save_model, write_examples
from tests.training_records import SUMMARY

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
    labeled = [
        # Every fifth label is wrong, so that no metric is trivial.
        example(
            image_bytes((COLORS.index(label) + (i % 5 == 4)) % 3, seed=i),
            label,
            brightness="dark" if i == 0 else "bright",
        )
        for label, count in COUNTS.items()
        for i in range(count)
    ]
    write_examples(root / "examples", "test", labeled)
    made = {"right": right, "wrong": wrong, "examples": examples}
    return made | measure(root / "both", made, "wrong", "right", ["label", "label*brightness"])


def measure(folder: Path, inputs: dict, model: str, baseline: str | None, slices: list[str]) -> dict:
    """Runs Predictor and the Evaluator's executor as the pipeline would."""
    folder.mkdir()
    predictions = artifact(InferenceResult, folder / "predictions", 18)
    materialized = artifact(Examples, folder / "materialized_predictions", 19)
    evaluation = artifact(ModelEvaluation, folder / "evaluation", 20)
    predictor.Predictor.test_call(
        model=inputs[model],
        baseline_model=inputs[baseline] if baseline else None,
        examples=inputs["examples"],
        predictions=predictions,
        materialized_predictions=materialized,
        beam_pipeline=beam.Pipeline(),
    )
    config = json_format.MessageToJson(eval_config(slices), preserving_proto_field_name=True)
    Executor().Do(
        {"model": [inputs[model]], "examples": [materialized], "baseline_model": [inputs["right"]]},
        {"evaluation": [evaluation], "blessing": [artifact(ModelBlessing, folder / "unused", 21)]},
        {"eval_config": config, "example_splits": '["test"]', "fairness_indicator_thresholds": "null"},
    )
    return {"predictions": predictions, "evaluation": evaluation}


def matrix(predictions: Predictions) -> np.ndarray:
    """The confusion matrix."""
    counts = np.zeros((3, 3), int)
    pairs, images = confusion(predictions)
    counts[tuple(pairs.T)] = images
    return counts


def gate(
    folder: Path,
    inputs: dict,
    settings: dict,
    monitoring: str = "",
    abstention: Abstention | None = None,
    **models: Model,
) -> tuple[ModelBlessing, Verdict]:
    blessing = artifact(ModelBlessing, folder / "blessing", 30)
    model_run = artifact(ModelRun, folder / "model_run", 31)
    (folder / "model_run").mkdir(parents=True, exist_ok=True)
    training_summary.SUMMARY.write(model_run.uri, dataclasses.replace(SUMMARY, abstention=abstention))
    ModelGate.test_call(
        evaluation=inputs["evaluation"],
        predictions=inputs["predictions"],
        model_run=model_run,
        blessing=blessing,
        settings=to_json(from_json(json.dumps({"slices": []} | settings), EvaluationSettings)),
        monitoring=monitoring,
        **models,
    )
    return blessing, VERDICT.read(folder / "blessing")


@pytest.mark.slow
def test_every_slice_of_both_models_is_measured_as_scikit_learn_does(inputs: dict, tmp_path: Path) -> None:
    measured = read_evaluation(inputs["evaluation"].uri)
    assert all(set(m.metrics) == {CANDIDATE, BASELINE} for m in measured)
    assert {m.slice: m.examples for m in measured} == {
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
    _, verdict = gate(tmp_path, inputs, {}, model=inputs["wrong"], baseline_model=inputs["right"])
    assert {s.slice: s.examples for s in verdict.slices} == {m.slice: m.examples for m in measured if m.parts}
    assert all(set(METRICS) == set(s.metrics) == set(s.baseline) for s in (verdict.overall, *verdict.slices))

    found = read_predictions(inputs["predictions"].uri)
    labels = [p.label for p in found]
    both = (found, [p.baseline for p in found if p.baseline])
    for classified, metrics in zip(both, (verdict.overall.metrics, verdict.overall.baseline), strict=True):
        predicted = [one.predicted for one in classified]
        np.testing.assert_array_equal(
            matrix(columns(labels, classified, COLORS)),
            sklearn_metrics.confusion_matrix(labels, predicted, labels=list(COLORS)),
        )
        for kind in ("macro", "weighted"):
            precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
                labels, predicted, average=kind, zero_division=0
            )
            values = [metrics[f"{kind}_{name}"].value for name in ("precision", "recall", "f1")]
            assert values == pytest.approx([precision, recall, f1])
        assert metrics["accuracy"].value == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    pairs = {(c.actual, c.predicted): c.examples for c in verdict.overall.confusions}
    counts = matrix(columns(labels, both[0], COLORS))
    assert pairs == {(COLORS[i], COLORS[j]): counts[i, j] for i, j in np.argwhere(counts)}


@pytest.mark.slow
def test_means_of_areas_are_over_the_classes_of_a_slice(inputs: dict, tmp_path: Path) -> None:
    bounds = {"per_slice": {"accuracy": {"min": 0.7, "min_examples": 12}}}
    _, verdict = gate(tmp_path, inputs, bounds, model=inputs["wrong"])

    areas = [one.auc.value for one in verdict.overall.classes]
    assert len(areas) == 3 and all(0 <= area <= 1 for area in areas)
    assert verdict.overall.metrics["macro_auc"].value == pytest.approx(np.mean(areas))
    assert verdict.overall.metrics["weighted_auc"].value == pytest.approx(np.average(areas, weights=[12, 6, 2]))
    red = next(s for s in verdict.slices if s.slice == "label=red")
    assert red.classes and all(one.auc.value is None for one in red.classes)  # no images of others to tell them from


@pytest.mark.slow
def test_what_intervals_are_drawn_around_are_the_values_tfma_measured(inputs: dict) -> None:
    """Two programs must agree about them, on every slice."""
    measured = read_evaluation(inputs["evaluation"].uri)
    predictions, scores = read_predictions(inputs["predictions"].uri), read_scores(inputs["predictions"].uri)
    for one in measured:
        places = [n for n, p in enumerate(predictions) if one.slice == "overall" or p.is_in(one.slice)]
        inside = [predictions[n] for n in places]
        for model, classified in (
            (CANDIDATE, inside),
            (BASELINE, [p.baseline for p in inside if p.baseline]),
        ):
            found = columns([p.label for p in inside], classified, COLORS, scores.bins[model][places])
            estimates = Estimates(found)
            values = {name: estimate.value for name in METRICS for estimate in estimates.of(name)}
            assert set(values) == set(METRICS) or len(np.unique(found.label)) == 1  # areas take two classes
            assert set(one.metrics[model]) == {*FRACTIONS, LOSS}
            for name, value in one.metrics[model].items():
                assert values[name] == pytest.approx(value, abs=1e-6 if name in FRACTIONS else 1e-5), one.slice


@pytest.mark.slow
def test_a_model_worse_than_its_baseline_is_refused(inputs: dict, tmp_path: Path) -> None:
    blessing, verdict = gate(
        tmp_path,
        inputs,
        {"thresholds": {"accuracy": {"max_drop": 0.01}}, "per_slice": {"accuracy": {"min": 0.7, "min_examples": 12}}},
        model=inputs["wrong"],
        baseline_model=inputs["right"],
    )

    assert not verdict.blessed
    assert [(f.slice, f.kind) for f in verdict.failures] == [
        ("overall", "max_drop"),
        ("label=red", "per_slice_min"),
    ]
    overall = verdict.overall
    assert overall.metrics["accuracy"].value < 0.3 and overall.baseline["accuracy"].value == pytest.approx(0.85)
    red = next(s for s in verdict.slices if s.slice == "label=red")
    assert red.baseline is not None and red.change is not None
    assert sum(pair.examples for pair in red.confusions) == red.examples
    assert {pair.actual for pair in red.confusions} == {"red"}
    assert [c.class_name for c in overall.classes] == list(COLORS)
    assert sum(pair.examples for pair in overall.confusions) == overall.examples == 20
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("current_model") == inputs["wrong"].uri
    assert blessing.get_int_custom_property("current_model_id") == 12
    assert blessing.get_string_custom_property("baseline_model") == inputs["right"].uri
    assert blessing.get_int_custom_property("baseline_model_id") == 11
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["NOT_BLESSED", "gate.json"]


@pytest.mark.slow
def test_a_model_that_meets_its_bounds_and_does_not_show_the_precision_wanted_is_refused(
    inputs: dict, tmp_path: Path
) -> None:
    chosen = Abstention(0.9, 0.99, 20, 3, 2, not_shown="abstain.precision is 0.95, and …")

    blessing, verdict = gate(
        tmp_path, inputs, {"thresholds": {"cross_entropy": {"max": 99}}}, abstention=chosen, model=inputs["right"]
    )

    assert not verdict.failures and verdict.reasons == [chosen.not_shown] and not verdict.blessed
    assert blessing.get_int_custom_property("blessed") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({}, "no bounds"),
        ({"cross_entropy": {"max": 99}}, "bounds met"),
        ({"accuracy": {"min": 0.9}}, "refused: accuracy "),
    ],
)
def test_the_console_is_told_the_verdict(
    thresholds: dict, said: str, inputs: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, progress.LOGGER_NAME):
        gate(tmp_path, inputs, {"thresholds": thresholds}, model=inputs["right"])

    assert caplog.records[-1].progress["note"].startswith(said)


def test_without_predictions_of_the_baseline_the_model_is_judged_by_itself(inputs: dict, tmp_path: Path) -> None:
    """TFX would hand the baseline to TFMA whatever became of it."""
    alone = measure(tmp_path / "alone", inputs, "right", None, ["label"])

    blessing, verdict = gate(
        tmp_path, alone, {"thresholds": {"accuracy": {"min": 0.5, "max_drop": 0.01}}}, model=inputs["right"]
    )

    assert verdict.blessed, verdict
    assert verdict.overall.metrics["accuracy"].value == pytest.approx(0.85) and verdict.overall.baseline is None
    assert [(s.slice, s.examples, s.baseline) for s in verdict.slices] == [
        ("label=blue", 2, None),
        ("label=green", 6, None),
        ("label=red", 12, None),
    ]
    assert verdict.notes == ["max_drop of accuracy was not checked: there is no blessed model yet"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("current_model_id") == 11
    assert not blessing.has_custom_property("baseline_model_id")
    assert sorted(e.name for e in (tmp_path / "blessing").iterdir()) == ["BLESSED", "gate.json"]


@pytest.mark.slow
def test_beside_the_verdict_lies_what_monitoring_compares_with(inputs: dict, tmp_path: Path) -> None:
    config = MonitoringConfig({"brightness": [0.5]}, ("brightness", "format"), MonitoringSettings(novel=0.3))
    gate(tmp_path, inputs, {}, monitoring=to_json(config), model=inputs["right"])
    found = REFERENCE.read(tmp_path / "blessing")
    right = sum(one.right for one in read_predictions(inputs["predictions"].uri))
    assert (found.overall.images, found.readable, found.overall.right) == (20, 20, right)
    assert found.labels == COUNTS and sum(found.predicted.values()) == 20
    assert {value: one.images for value, one in found.slices["brightness"].items()} == {"bright": 17, "dark": 3}
    assert found.slices["format"] == {} and found.boundaries == config.boundaries and found.bounds == config.bounds
    assert 0 < found.confidence.mean < 1 and found.confidence.variance > 0


@pytest.mark.slow
def test_tfma_is_spared_features_of_many_values_and_the_gate_measures_the_same(
    inputs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = ["label", "label*brightness"]
    _, whole = gate(tmp_path, inputs, {"slices": slices}, model=inputs["wrong"], baseline_model=inputs["right"])
    monkeypatch.setattr(slicing, "TFMA_VALUES", 3)  # there are three labels, and six combinations
    spared = measure(tmp_path / "spared", inputs, "wrong", "right", slices)

    assert {len(m.parts) for m in read_evaluation(spared["evaluation"].uri)} == {0, 1}
    _, verdict = gate(
        tmp_path / "again", spared, {"slices": slices}, model=inputs["wrong"], baseline_model=inputs["right"]
    )
    assert [s.slice for s in verdict.slices] == [s.slice for s in whole.slices] and len(whole.slices) == 9
    for one, other in zip(verdict.slices, whole.slices, strict=True):
        for values in ("metrics", "baseline"):
            found, wanted = ([r.value for r in getattr(s, values).values()] for s in (one, other))
            assert [v for v in found if v is not None] == pytest.approx([v for v in wanted if v is not None], abs=1e-5)
