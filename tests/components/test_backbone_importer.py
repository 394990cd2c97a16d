import json
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

from components.backbone_importer import BackboneImporter
from core.errors import InputError
from core.settings import converter
from core.settings.training import BackboneConfig


def run(uri: Path, weights: str) -> Model:
    artifact = Model()
    artifact.uri = str(uri)
    settings = converter.to_json(BackboneConfig(weights=weights, image_size=75))
    BackboneImporter.test_call(backbone=artifact, settings=settings)
    return artifact


def test_artifact_is_where_the_trainer_looks_for_a_base_model(tmp_path: Path) -> None:
    artifact = run(tmp_path, "random")
    directory = Path(path_utils.serving_model_path(artifact.uri))
    assert {p.name for p in directory.iterdir()} == {
        "backbone.ckpt.data-00000-of-00001",
        "backbone.ckpt.index",
        "backbone.json",
    }
    record = json.loads((directory / "backbone.json").read_text())
    assert artifact.get_string_custom_property("source") == record["source"] == "random"
    assert artifact.get_string_custom_property("sha256") == record["sha256"]
    assert artifact.get_int_custom_property("random") == 1


def test_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run(tmp_path, "/nowhere.h5")
