"""TestPredictions: an answer for every test image, and pictures of the worst mistakes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model

from components import occlusion, test_predictions
from components.prediction import GALLERY_FILE, PREDICTIONS_FILE, Prediction
from tests.model_factory import COLOURS, Fault, example, image_bytes, save_model, write_examples


def labelled(colour: int, label: str, number: int, **slices: str):
    """An example whose picture is of one colour and whose label may be another."""
    made = example(image_bytes(colour, seed=number), label, **slices)
    made.features.feature["image/path"].bytes_list.value.append(f"{label}/{number}.jpg".encode())
    made.features.feature["image/sha256"].bytes_list.value.append(b"ab")
    return made


def run(
    folder: Path, examples: list, faults: Sequence[Fault] = (), **parameters: object
) -> tuple[list[Prediction], list[dict], object]:
    """Runs the component on these examples and reads what it wrote."""
    model, raw, predictions = Model(), Examples(), test_predictions.Predictions()
    model.uri, raw.uri, predictions.uri = (str(folder / name) for name in ("model", "examples", "predictions"))
    raw.split_names = artifact_utils.encode_split_names(["train", "test"])
    (folder / "model").mkdir()
    save_model(folder / "model" / "Format-Serving", certainty=2.0, faults=faults)
    write_examples(folder / "examples", "test", examples)
    test_predictions.TestPredictions.test_call(
        model=model, examples=raw, predictions=predictions, image_size=24, **parameters
    )
    lines = (folder / "predictions" / PREDICTIONS_FILE).read_text().splitlines()
    gallery = json.loads((folder / "predictions" / GALLERY_FILE).read_text())
    return [Prediction(**json.loads(line)) for line in lines], gallery, predictions


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory):
    """Seven right answers and two wrong labels, asked for in batches of four."""
    right = [labelled(i % 3, COLOURS[i % 3], i, brightness="dark") for i in range(7)]
    wrong = [labelled(0, "blue", 7), labelled(1, "no such class é", 8)]
    return (*run(tmp_path_factory.mktemp("mixed"), right + wrong, batch_size=4), tmp_path_factory.getbasetemp())


def test_every_image_has_an_answer_in_order(mixed) -> None:
    predictions, _, artifact, _ = mixed

    assert [p.path for p in predictions[:2]] == ["red/0.jpg", "green/1.jpg"]
    assert [p.right for p in predictions] == [True] * 7 + [False] * 2
    assert all(0 <= p.label_probability <= p.probability <= 1 for p in predictions)
    assert predictions[0].slices == {"brightness": "dark"} and predictions[0].sha256 == "ab"
    assert artifact.get_int_custom_property("examples") == 9
    assert artifact.get_int_custom_property("mistakes") == 2


def test_a_class_the_model_does_not_know_has_no_probability(mixed) -> None:
    unknown = mixed[0][8]

    assert (unknown.label, unknown.predicted, unknown.label_probability) == ("no such class é", "green", 0)


def test_the_gallery_holds_the_mistakes_worst_first_with_what_the_model_saw(mixed) -> None:
    _, gallery, artifact, _ = mixed

    assert [entry["label"] for entry in gallery] == ["no such class é", "blue"]
    for entry in gallery:
        for what in ("original", "seen", "attribution"):
            with Image.open(Path(artifact.uri) / entry[what]) as picture:
                assert picture.size == (24, 24) and picture.format == "JPEG"
    with Image.open(Path(artifact.uri) / gallery[1]["seen"]) as seen:
        assert np.asarray(seen).reshape(-1, 3).mean(axis=0).argmax() == 0  # the picture labelled blue is red


def test_only_the_worst_are_shown(tmp_path: Path) -> None:
    examples = [labelled(0, "blue", number) for number in range(5)]

    predictions, gallery, _ = run(tmp_path, examples, worst=2)

    lowest = sorted(predictions, key=lambda p: p.label_probability)[:2]
    assert [entry["path"] for entry in gallery] == [p.path for p in lowest]


def test_a_split_without_images_gives_an_empty_answer(tmp_path: Path) -> None:
    predictions, gallery, artifact = run(tmp_path, [])

    assert predictions == [] and gallery == []
    assert artifact.get_int_custom_property("examples") == 0


def test_a_model_that_answers_nan_is_wrong_about_everything_and_ends_no_run(tmp_path: Path) -> None:
    predictions, gallery, _ = run(tmp_path, [labelled(1, "green", 0)], faults=["nan"])

    assert [(p.probability, p.right) for p in predictions] == [(0, False)]
    assert len(gallery) == 1


def test_occlusion_finds_the_part_that_matters() -> None:
    image = np.full((60, 60, 3), 40, np.uint8)
    image[0:20, 40:60] = 250  # what this classifier looks for, at the top right

    cells = occlusion.sensitivity(image, lambda images: np.array([i[0:20, 40:60].mean() / 255 for i in images]))

    assert np.unravel_index(cells.argmax(), cells.shape) in {(0, 5), (1, 5), (0, 4), (1, 4)}
    assert cells[:, 0] == pytest.approx(np.zeros(occlusion.CELLS))


def test_the_overlay_tints_what_speaks_for_and_against() -> None:
    grey = np.full((60, 60, 3), 128, np.uint8)
    cells = np.zeros((occlusion.CELLS, occlusion.CELLS))
    cells[0, 0], cells[-1, -1] = 0.5, -0.5

    tinted = np.asarray(occlusion.overlay(grey, cells)).astype(int)

    assert tinted[2, 2, 0] > 180 and tinted[2, 2, 2] < 80  # orange
    assert tinted[-2, -2, 2] > 180 and tinted[-2, -2, 0] < 100  # blue
    assert (abs(tinted[30, 30] - 128) < 12).all()


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
    prediction = Prediction("p", "", "a, b", "c", 1.0, 0.0, {"brightness": "dark", "format": "png"})

    assert prediction.is_in(name) is member
