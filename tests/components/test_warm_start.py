"""Which model a training starts from, and what is packed of it."""

import json
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, TransformGraph

from components.warm_start import LastBlessedStrategy, WarmStart


def artifact(kind, number, uri=""):
    made = kind()
    made.id, made.uri = number, str(uri)
    return made


@pytest.fixture
def model(tmp_path):
    """Makes a Model artifact with the files of an export that a warm start needs."""

    def make(number):
        serving = tmp_path / f"model-{number}" / "Format-Serving"
        for folder in ("assets", "assets.extra", "variables"):
            (serving / folder).mkdir(parents=True)
        for name in ("assets.extra/batch_norms", "variables/variables"):
            for part in ("index", "data-00000-of-00001"):
                (serving / f"{name}.{part}").write_text(f"{name}.{part} of {number}")
        (serving / "assets" / "classes.txt").write_text("cat\ndog\n")
        return artifact(Model, number, serving.parent)

    return make


@pytest.fixture
def backbone(tmp_path):
    folder = tmp_path / "backbone" / "Format-Serving"
    folder.mkdir(parents=True)
    (folder / "backbone.json").write_text("{}")
    return artifact(Model, 5, folder.parent)


def blessing(number, of, blessed=1):
    made = artifact(ModelBlessing, number)
    made.set_int_custom_property("blessed", blessed)
    made.set_int_custom_property("current_model_id", of)
    return made


def pack(tmp_path, backbone, model=None, examples=1, training="settings"):
    """Runs the component; returns what it left."""
    base = artifact(
        Model, 100 + len(list(tmp_path.glob("base-*"))), tmp_path / f"base-{examples}-{training}-{model and model.id}"
    )
    WarmStart.test_call(
        examples=artifact(Examples, examples),
        transform_graph=artifact(TransformGraph, 2),
        backbone=backbone,
        base=base,
        model=model,
        training=training,
    )
    return base


def resolve(backbone, models, blessings, examples=1, training="settings"):
    found = LastBlessedStrategy(training).resolve_artifacts(
        None,
        {
            "examples": [artifact(Examples, examples)],
            "transform_graph": [artifact(TransformGraph, 2)],
            "backbone": [backbone],
            "model": models,
            "model_blessing": blessings,
        },
    )
    return [m.id for m in found["model"]]


def test_the_model_is_packed_beside_the_weights(tmp_path, backbone, model):
    packed = Path(pack(tmp_path, backbone, model(7)).uri) / "Format-Serving"
    assert (packed / "backbone.json").read_text() == "{}"
    for name in ("assets.extra/batch_norms.index", "variables/variables.index"):
        assert (packed / "warm_start" / name).read_text() == f"{name} of 7"
    assert (packed / "warm_start" / "variables" / "variables.data-00000-of-00001").is_file()
    assert (packed / "warm_start" / "assets" / "classes.txt").read_text() == "cat\ndog\n"
    origin = json.loads((packed / "warm_start" / "origin.json").read_text())
    assert origin == {"schema_version": 1, "uri": str(tmp_path / "model-7"), "id": 7}


def test_without_a_model_only_the_weights_are_there(tmp_path, backbone):
    packed = Path(pack(tmp_path, backbone).uri) / "Format-Serving"
    assert [path.name for path in packed.iterdir()] == ["backbone.json"]


def test_a_first_training_has_nothing_to_start_from(backbone, model):
    assert resolve(backbone, [], []) == []
    assert resolve(backbone, [model(7)], [blessing(50, 7, blessed=0)]) == []


def test_new_images_start_from_the_last_blessed_model(tmp_path, backbone, model):
    models = [model(7), model(8), model(9), pack(tmp_path, backbone)]
    blessings = [blessing(50, 7), blessing(51, 8), blessing(52, 9, blessed=0)]
    assert resolve(backbone, models, blessings, examples=2) == [8]


def test_a_run_repeated_unchanged_starts_from_what_it_started_from(tmp_path, backbone, model):
    """And not from the model it has made: model 8 is blessed, and was trained from 7 on examples 2."""
    first = pack(tmp_path, backbone, examples=1)
    second = pack(tmp_path, backbone, model(7), examples=2)
    everything = [artifact(Model, 7, tmp_path / "model-7"), model(8), first, second]
    blessings = [blessing(50, 7), blessing(51, 8)]
    assert resolve(backbone, everything, blessings, examples=1) == []
    assert resolve(backbone, everything, blessings, examples=2) == [7]
    assert resolve(backbone, everything, blessings, examples=2, training="other settings") == [8]


def test_a_model_whose_files_are_gone_is_not_started_from(tmp_path, backbone):
    assert resolve(backbone, [artifact(Model, 7, tmp_path / "gone")], [blessing(50, 7)]) == []
