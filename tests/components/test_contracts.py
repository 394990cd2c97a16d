"""Each component of ours keeps `ComponentContract`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types import Artifact, artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import (
    ExampleAnomalies,
    Examples,
    ExampleStatistics,
    InferenceResult,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
    PushedModel,
    TransformGraph,
)

from components.backbone_importer import BackboneImporter
from components.feature_extractor import FeatureExtractor
from components.image_example_gen import ImageExampleGen
from components.mlflow_publisher import MlflowPublisher
from components.model_gate import ModelGate
from components.predictor import Predictor
from components.schema_importer import SchemaImporter
from components.serving_check import ServingCheck
from components.suspect_labels import SuspectLabels
from components.tflite_converter import TFLiteConverter
from components.validation_gate import ValidationGate
from components.warm_start import WarmStart
from components.worst_mistakes import WorstMistakes
from core.artifacts.features import FeatureConfig
from core.artifacts.ingest_record import DUPLICATES
from core.settings import converter
from core.settings.backbone import BackboneConfig
from core.settings.data import DataSettings
from tests.components.component_contract import Case, ComponentContract, any_parameters
from tests.components.ram_files import ram  # noqa: F401 - a fixture
from tests.model_factory import COLORS, example, image_bytes, save_model, write_examples
from tests.trainer import training_data
from trainer.weights.importing import import_weights

SIZE = 75


def artifact(kind: type[Artifact], uri: Path, number: int) -> Artifact:
    made = kind()
    made.uri, made.id = str(uri), number
    return made


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Three images in each split."""
    made = artifact(Examples, tmp_path_factory.mktemp("examples"), 1)
    splits = ["train", "eval", "test"]
    made.split_names = artifact_utils.encode_split_names(splits)
    for split in splits:
        images = [example(image_bytes(i, seed=i), COLORS[i]) for i in range(3)]
        for i, image in enumerate(images):
            image.features.feature["image/sha256"].bytes_list.value.append(f"{split}{i}".encode())
            image.features.feature["image/path"].bytes_list.value.append(f"{split}{i}.jpg".encode())
        write_examples(Path(made.uri), split, images)
    return made


@pytest.fixture(scope="module")
def transform_graph(examples: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    made = artifact(TransformGraph, tmp_path_factory.mktemp("transform"), 2)
    images = [example(image_bytes(i, seed=i), COLORS[i]).SerializeToString() for i in range(3)]
    training_data.run_transform(images, Path(made.uri), SIZE)
    return made


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    made = artifact(Model, tmp_path_factory.mktemp("backbone"), 3)
    import_weights(BackboneConfig(weights="random", image_size=SIZE), f"{made.uri}/Format-Serving")
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    made = artifact(Model, tmp_path_factory.mktemp("model"), 4)
    save_model(Path(made.uri) / "Format-Serving")
    return made


def backbone_settings(**values: Any) -> str:
    return converter.to_json(BackboneConfig(**{"weights": "random", "image_size": SIZE, **values}))


class TestSchemaImporter(ComponentContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(SchemaImporter, {}, {"text": "feature {}", "code": "1"})


class TestBackboneImporter(ComponentContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(
            BackboneImporter,
            {},
            {"settings": backbone_settings(), "fingerprint": "", "code": "1"},
            broken={"settings": backbone_settings(weights="/nowhere.h5")},
        )


class TestWarmStart(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, transform_graph: Artifact, backbone: Artifact, model: Artifact) -> Case:
        inputs = {"examples": examples, "transform_graph": transform_graph, "backbone": backbone, "model": model}
        return Case(WarmStart, inputs, {"training": "{}", "code": "1"})


class TestFeatureExtractor(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, transform_graph: Artifact, backbone: Artifact) -> Case:
        config = FeatureConfig("mixed0", ("mixed10",), batch_size=2, bfloat16="off")
        return Case(
            FeatureExtractor,
            {"examples": examples, "transform_graph": transform_graph, "backbone": backbone},
            {"config": converter.to_json(config), "code": "1"},
            broken={"config": converter.to_json(FeatureConfig("mixed99", ("mixed10",), batch_size=2, bfloat16="off"))},
        )


class TestTFLiteConverter(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, model: Artifact) -> Case:
        formats = {"formats": '["tflite-int8"]', "code": "1"}
        other, broken = {"formats": '["tflite-float16"]'}, {"formats": '["onnx"]'}
        return Case(TFLiteConverter, {"examples": examples, "model": model}, formats, other, broken)


class TestPredictor(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, model: Artifact) -> Case:
        inputs = {"examples": examples, "model": model}
        return Case(Predictor, inputs, {"split": "test", "batch_size": 2, "code": "1"}, broken={"split": "absent"})


class TestImageExampleGen(ComponentContract):
    @pytest.fixture
    def case(self, image_folder: Any) -> Case:
        data, other, broken = (
            DataSettings(images="unused", near_duplicates=None, **options).ingestion({})
            for options in ({}, {"splits": {"train": 3, "eval": 1, "test": 1}}, {"metadata": "absent.csv"})
        )
        parameters = {"input_base": str(image_folder(cat=6, dog=6)), "config": data, "code": "1"}
        return Case(ImageExampleGen, {}, parameters, other={"config": other}, broken={"config": broken})


class TestModelGate(ComponentContract):
    @pytest.fixture
    def case(self, model: Artifact, tmp_path: Path) -> Case:
        inputs = {
            "evaluation": artifact(ModelEvaluation, tmp_path, 5),
            "predictions": artifact(InferenceResult, tmp_path, 6),
            "model": model,
            "model_run": artifact(ModelRun, tmp_path, 7),
        }
        reason = "TFMA, which reads the evaluation, takes 20 s to import; test_model_gate runs it"
        return Case(ModelGate, inputs, any_parameters(ModelGate), not_run=reason)


class TestValidationGate(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, tmp_path: Path) -> Case:
        inputs = {
            "anomalies": artifact(ExampleAnomalies, tmp_path, 5),
            "statistics": artifact(ExampleStatistics, tmp_path, 6),
            "examples": examples,
            "rejects": artifact(File, tmp_path, 7),
        }
        reason = "its inputs are TFDV's; test_validation_gate runs it"
        return Case(ValidationGate, inputs, any_parameters(ValidationGate), not_run=reason)


class TestServingCheck(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, model: Artifact) -> Case:
        reason = "the process in which it serves cannot read the memory of this one"
        return Case(ServingCheck, {"examples": examples, "model": model}, any_parameters(ServingCheck), not_run=reason)


class TestMlflowPublisher(ComponentContract):
    @pytest.fixture
    def case(self, model: Artifact, tmp_path: Path) -> Case:
        pushed = artifact(PushedModel, tmp_path, 5)
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", f"{model.uri}/Format-Serving")
        inputs = {"pushed_model": pushed, "blessing": artifact(ModelBlessing, tmp_path, 6)}
        settings = {
            name: f'{{"tracking_uri": {uri}}}' for name, uri in (("none", "null"), ("dead", '"http://127.0.0.1:9"'))
        }
        return Case(
            MlflowPublisher,
            inputs,
            {"settings": settings["none"], "pipeline_name": "birds", "parameters": "{}", "code": "1"},
            other={"settings": settings["dead"]},
            broken={"settings": settings["dead"]},
        )


class TestSuspectLabels(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, tmp_path: Path) -> Case:
        features, record = artifact(Examples, tmp_path / "features", 5), artifact(File, tmp_path / "record", 6)
        Path(record.uri).mkdir()
        DUPLICATES.write(Path(record.uri), [])
        inputs = {"examples": examples, "features": features, "record": record}
        return Case(SuspectLabels, inputs, {"group_by": "", "code": "1"})


class TestWorstMistakes(ComponentContract):
    @pytest.fixture
    def case(self, examples: Artifact, model: Artifact, tmp_path: Path) -> Case:
        predictions = artifact(InferenceResult, tmp_path / "predictions", 5)
        Path(predictions.uri).mkdir()
        wrong = {"path": "test0.jpg", "sha256": "test0", "label": "red", "predicted": "blue", "probability": 0.9}
        more = {"label_probability": 0.1, "slices": {}, "rank": 3, "baseline": None}
        Path(predictions.uri, "predictions.jsonl").write_text(json.dumps(wrong | more) + "\n")
        inputs = {"model": model, "examples": examples, "predictions": predictions}
        return Case(WorstMistakes, inputs, {"worst": 2, "code": "1"})
