"""Predictor: both models' predictions for every test image, and why there may be none of the last blessed one."""

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components import predictor
from components.evaluation.answers import Answers
from components.features import probe
from core import tfrecords
from core.artifacts.features import FEATURES_FILE, UNVARIED, Features, SplitFeatures
from core.artifacts.predictions import (
    ALL,
    FEATURES_DISAGREED,
    NOT_COMPARED,
    Prediction,
    read_predictions,
    read_scores,
)
from tests.components.test_tflite_converter import convert
from tests.model_factory import COLORS, Fault, example, image_bytes, save_model, write_examples
from tests.trainer import training_data


def labeled(color: int, label: str, number: int, **slices: str) -> tf.train.Example:
    """An example whose image is of one color and whose label may be another."""
    made = example(image_bytes(color, seed=number), label, **slices)
    made.features.feature["image/path"].bytes_list.value.append(f"{label}/{number:02d}.jpg".encode())
    made.features.feature["image/sha256"].bytes_list.value.append(b"ab")
    return made


def model(folder: Path, name: str, **options: object) -> Model:
    made = Model()
    made.uri = str(folder / name)
    (folder / name).mkdir()
    save_model(folder / name / "Format-Serving", **({"certainty": 2.0} | options))
    return made


def run(
    folder: Path,
    examples: list,
    baseline: Model | None = None,
    faults: Sequence[Fault] = (),
    counted: int | None = None,
    candidate: Model | None = None,
    **parameters: object,
) -> tuple[list[Prediction], list[tf.train.Example], InferenceResult]:
    """Runs the component on these examples and reads what it wrote, by path."""
    raw, materialized, predictions = Examples(), Examples(), InferenceResult()
    for artifact, name in ((raw, "examples"), (materialized, "materialized"), (predictions, "predictions")):
        artifact.uri = str(folder / name)
    raw.split_names = artifact_utils.encode_split_names(["train", "test"])
    write_examples(folder / "examples", "test", examples)
    if parameters.get("split") != ALL:
        raw.set_int_custom_property("examples_test", len(examples) if counted is None else counted)
    predictor.Predictor.test_call(
        model=candidate or model(folder, "model", faults=faults),
        baseline_model=baseline,
        examples=raw,
        predictions=predictions,
        materialized_predictions=materialized,
        beam_pipeline=beam.Pipeline(),
        **parameters,
    )
    kept = [tf.train.Example.FromString(r) for r in tfrecords.read(f"{folder}/materialized/Split-test/*")]
    return read_predictions(folder / "predictions"), kept, predictions


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory):
    """Seven right labels and two wrong ones, predicted in batches of four, beside a model that is mostly wrong."""
    right = [labeled(i % 3, COLORS[i % 3], i, brightness="dark") for i in range(7)]
    wrong = [labeled(0, "blue", 7), labeled(1, "no such class é", 8)]
    folder = tmp_path_factory.mktemp("mixed")
    baseline = model(folder, "before", classes=("blue", "green", "red"), certainty=-2.0)
    return run(folder, right + wrong, baseline, batch_size=4)


def test_every_image_has_a_prediction(mixed) -> None:
    predictions, _, artifact = mixed

    assert len(predictions) == 9 and sum(p.right for p in predictions) == 7
    assert all(0 <= p.label_probability <= p.probability <= 1 for p in predictions)
    (first,) = (p for p in predictions if p.path == "red/00.jpg")
    assert first.slices == {"brightness": "dark"} and first.sha256 == "ab" and first.rank == 1
    assert read_scores(artifact.uri).classes == list(COLORS)
    assert artifact.get_int_custom_property("examples") == 9
    assert artifact.get_int_custom_property("mistakes") == 2


def test_what_the_candidate_was_converted_to_is_asked_about_the_same_images(tmp_path: Path) -> None:
    source = model(tmp_path, "source")
    converted = convert(tmp_path / "convert", Path(source.uri))
    (tmp_path / "run").mkdir()
    candidate = Model()
    candidate.uri = str(converted.parent)
    examples = [labeled(i % 3, COLORS[i % 3], i) for i in range(4)] + [labeled(0, "red", 4)]
    examples[-1].features.feature["image/encoded"].bytes_list.value[0] = b"no image"

    predictions, _, artifact = run(tmp_path / "run", examples, candidate=candidate)

    for one in predictions:
        assert list(one.exports) == ["tflite-float16", "tflite-int8"]
        for export in one.exports.values():
            assert export.predicted == one.predicted
            assert export.label_probability == pytest.approx(one.label_probability, abs=0.05)
    assert [p.path for p in predictions if not p.predicted] == ["red/04.jpg"]
    assert set(read_scores(artifact.uri).bins) == {"candidate", "tflite-float16", "tflite-int8"}


def test_a_class_the_model_does_not_know_has_no_probability(mixed) -> None:
    (unknown,) = (p for p in mixed[0] if p.label == "no such class é")

    assert (unknown.predicted, unknown.label_probability, unknown.rank) == ("green", 0, 4)


def test_the_baseline_predicts_for_the_same_image_in_its_own_order_of_classes(mixed) -> None:
    """The factory's network calls its first output by the first name: "blue" is red's, and it is wrong about it."""
    for prediction in mixed[0]:
        assert prediction.baseline is not None
        assert 0 <= prediction.baseline.label_probability <= prediction.baseline.probability
    (green,) = (p for p in mixed[0] if p.path == "green/01.jpg")
    assert green.right and green.baseline.rank == 3  # type: ignore[union-attr]


def test_what_tfma_reads_holds_no_image_and_both_models_probabilities_in_one_order(mixed) -> None:
    predictions, kept, artifact = mixed

    assert not artifact.has_custom_property(NOT_COMPARED)
    assert len(kept) == len(predictions)
    for one in kept:
        names = set(one.features.feature)
        assert {"label", "label_xf", "candidate", "baseline"} <= names and "image/encoded" not in names
        label = one.features.feature["label"].bytes_list.value[0].decode()
        place = one.features.feature["label_xf"].int64_list.value[0]
        assert place == (COLORS.index(label) if label in COLORS else -1)
        assert sum(one.features.feature["baseline"].float_list.value) == pytest.approx(1, abs=1e-5)


def test_an_image_without_a_prediction_is_an_internal_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 images were written to test; 2 have a prediction"):
        run(tmp_path, [labeled(0, "red", 0), labeled(1, "green", 1)], counted=3)


def test_a_split_without_images_gives_no_predictions(tmp_path: Path) -> None:
    predictions, kept, artifact = run(tmp_path, [])

    assert predictions == [] and kept == []
    assert artifact.get_int_custom_property("examples") == 0


def test_every_split_is_asked_about_where_all_are(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples", "train", [labeled(1, "green", 2)])
    predictions, kept, left = run(tmp_path, [labeled(0, "red", 1)], split=ALL)
    assert [(one.path, one.right) for one in predictions] == [("green/02.jpg", True), ("red/01.jpg", True)]
    assert len(kept) == 2 and left.get_int_custom_property("examples") == 2


def test_a_model_that_predicts_nan_is_wrong_about_everything_and_ends_no_run(tmp_path: Path) -> None:
    predictions, _, _ = run(tmp_path, [labeled(1, "green", 0)], faults=["nan"])

    assert [(p.probability, p.right) for p in predictions] == [(0, False)]


def test_an_image_the_model_cannot_read_is_a_mistake_without_a_class_and_ends_no_run(tmp_path: Path) -> None:
    good, bad = labeled(1, "green", 0), labeled(0, "red", 1)
    bad.features.feature["image/encoded"].bytes_list.value[0] = image_bytes(0, format="PNG")[:300]

    predictions, _, artifact = run(tmp_path, [good, bad, labeled(2, "blue", 2)])

    assert [(p.predicted, p.right) for p in predictions] == [("blue", True), ("green", True), ("", False)]
    assert (predictions[2].probability, predictions[2].label_probability) == (0, 0)
    assert artifact.get_int_custom_property("mistakes") == 1


def truncate(folder: Path) -> None:
    path = next((folder / "before" / "Format-Serving" / "variables").glob("variables.data*"))
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("harm", "options", "said"),
    [
        (truncate, {}, "the last blessed model no longer loads: "),
        (lambda f: (f / "before/Format-Serving/saved_model.pb").write_bytes(b"no"), {}, "no longer loads: "),
        (lambda f: shutil.rmtree(f / "before"), {}, "the last blessed model's files are gone"),
        (lambda f: None, {"classes": ("red", "green")}, r"other classes \(2, now 3; blue differ\)"),
    ],
)
def test_a_last_blessed_model_that_cannot_be_compared_with_ends_no_run(
    harm, options: dict, said: str, tmp_path: Path
) -> None:
    before = model(tmp_path, "before", **options)
    harm(tmp_path)

    predictions, kept, artifact = run(tmp_path, [labeled(1, "green", 0)], before)

    assert predictions[0].baseline is None and "baseline" not in kept[0].features.feature
    reason = artifact.get_string_custom_property(NOT_COMPARED)
    assert re.search(said, reason), reason


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("label=a, b", True),
        ("label=a, b, brightness=dark", True),
        ("brightness=dark, label=a, b", True),
        ("label=a", False),
        ("brightness=bright", False),
        ("label=a, b, brightness=bright", False),
    ],
)
def test_membership_of_slices_whose_values_hold_commas(name: str, member: bool) -> None:
    prediction = Prediction("c", 1.0, 0.0, 2, "p", "", "a, b", {"brightness": "dark", "format": "png"})

    assert prediction.is_in(name) is member


def features_of(folder: Path, candidate: Model, examples: Sequence[tf.train.Example]) -> Examples:
    """What FeatureExtractor would have left of these images, and of the built-in ones."""
    made = Examples()
    made.uri = str(folder / "features")
    made.split_names = artifact_utils.encode_split_names(["test"])
    with Answers(f"{candidate.uri}/Format-Serving") as answers:
        name = answers.signatures["serving_features"].inputs["pooled_mixed10"].name
        values = answers.fetch(name, [one.SerializeToString() for one in examples])
        probed = probe.probe(8, lambda records: answers.fetch(name, records))
    records = []
    for one, value in zip(examples, values, strict=True):
        record = tf.train.Example()
        record.features.feature["features"].bytes_list.value.append(value.tobytes())
        record.features.feature["image/sha256"].MergeFrom(one.features.feature["image/sha256"])
        records.append(record.SerializeToString())
    training_data.write_split(folder / "features", "test", records)
    splits = {"test": SplitFeatures(UNVARIED, "float32", False, probed)}
    FEATURES_FILE.write(made.uri, Features("pooled", ("mixed10",), (3,), 8, "0", "", None, splits))
    return made


def images_asked_about(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Gets a pair for each time that a model is asked about pictures: its folder's name, and how many."""
    asked: list[tuple[str, int]] = []
    original = Answers.from_images

    def counted(self: Answers, records: Sequence[bytes]) -> tuple[list[str], np.ndarray]:
        asked.append((Path(self.directory).parent.name, len(records)))
        return original(self, records)

    monkeypatch.setattr(Answers, "from_images", counted)
    return asked


def twelve() -> list[tf.train.Example]:
    """Each another picture; the last two are labeled wrongly."""
    made = [labeled(i % 3, COLORS[(i + (i > 9)) % 3], i, brightness="dark") for i in range(12)]
    for number, one in enumerate(made):
        one.features.feature["image/sha256"].bytes_list.value[0] = f"{number:04d}".encode()
    return made


def test_both_models_answer_from_the_stored_features_and_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches: the first picture of each, and two mistakes, of which one is the first of its batch."""
    candidate = model(tmp_path, "candidate", takes_features=True)
    baseline = model(tmp_path, "before", takes_features=True, certainty=1.0)
    asked = images_asked_about(monkeypatch)

    from_features = run(
        tmp_path, twelve(), baseline, candidate=candidate, features=features_of(tmp_path, candidate, twelve()),
        batch_size=5,
    )  # fmt: skip

    assert sum(n for name, n in asked if name == "candidate") == 3 + 1
    assert sum(n for name, n in asked if name == "before") == 1 + 3  # one to find out whether it loads
    assert not from_features[2].has_custom_property(FEATURES_DISAGREED)
    (tmp_path / "pictures").mkdir()
    from_pictures = run(tmp_path / "pictures", twelve(), baseline, candidate=candidate)
    for one, other in zip(from_features[0], from_pictures[0], strict=True):
        assert (one.path, one.predicted, one.rank) == (other.path, other.predicted, other.rank)
        assert one.label_probability == pytest.approx(other.label_probability, abs=1e-5)
        assert one.baseline.probability == pytest.approx(other.baseline.probability, abs=1e-5)  # type: ignore[union-attr]


def test_why_a_label_is_withheld_is_kept_of_both_models_and_the_class_stays(tmp_path: Path) -> None:
    """The one withholds all that is less than sure, the other nothing."""
    candidate = model(tmp_path, "candidate", takes_features=True, least_probability=0.95, certainty=1.0)
    baseline = model(tmp_path, "before")

    found, _, _ = run(
        tmp_path, twelve(), baseline, candidate=candidate, features=features_of(tmp_path, candidate, twelve())
    )

    assert all(p.reason == "the probability is too low" and p.predicted in COLORS for p in found)
    assert all(p.baseline is not None and p.baseline.reason == "" for p in found)
    assert len({p.novelty for p in found}) > 1 and all(0 < p.novelty < 1 for p in found)


def test_features_that_give_other_answers_than_the_pictures_are_not_used(tmp_path: Path) -> None:
    candidate = model(tmp_path, "candidate", takes_features=True)
    spoiled = features_of(tmp_path, candidate, twelve())
    files = next(Path(spoiled.uri, "Split-test").iterdir())
    records = [tf.train.Example.FromString(r) for r in tfrecords.read(str(files))]
    values = [r.features.feature["features"].bytes_list.value for r in records]
    values[0][0], values[1][0] = values[1][0], values[0][0]
    with tf.io.TFRecordWriter(str(files)) as writer:
        for record in records:
            writer.write(record.SerializeToString())

    predictions, kept, artifact = run(tmp_path, twelve(), candidate=candidate, features=spoiled)

    assert artifact.get_string_custom_property(FEATURES_DISAGREED).startswith("2 of 4 test images get other prob")
    assert [p.right for p in predictions].count(False) == 2 and len(kept) == len(predictions) == 12


@pytest.mark.parametrize("other", ["preprocessing", "signature"])
def test_a_model_that_would_compute_other_features_is_asked_about_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    candidate = model(tmp_path, "candidate", takes_features=True)
    stored = features_of(tmp_path, candidate, twelve())
    described = FEATURES_FILE.read(stored.uri)
    if other == "preprocessing":
        probed = np.frombuffer(described.splits["test"].probe, "<f4") * np.float32(1.01)
        changed = {"test": dataclasses.replace(described.splits["test"], probe=probed.tobytes())}
        FEATURES_FILE.write(stored.uri, dataclasses.replace(described, splits=changed))
    else:
        FEATURES_FILE.write(stored.uri, dataclasses.replace(described, outputs=("mixed9",)))
    asked = images_asked_about(monkeypatch)

    run(tmp_path, twelve(), candidate=candidate, features=stored)

    assert sum(n for _, n in asked) == 12
