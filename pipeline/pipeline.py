"""create_pipeline: the one list of components, in groups, the same for every runner."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_data_validation as tfdv
from ml_metadata.proto import metadata_store_pb2
from tfx.components import ExampleValidator, StatisticsGen, Trainer, Transform, Tuner
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.placeholder.placeholder_base import Placeholder
from tfx.dsl.placeholder.runtime_placeholders import environment_variable
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel

from components.backbone_importer import BackboneImporter
from components.evaluation.eval_config import eval_config
from components.evaluator import Evaluator
from components.feature_extractor import FeatureExtractor
from components.image_example_gen import ImageExampleGen
from components.ingestion import slice_features
from components.mlflow_publisher import MlflowPublisher
from components.model_gate import ModelGate
from components.predictor import Predictor
from components.pusher import Pusher
from components.schema_importer import SchemaImporter
from components.suspect_labels import SuspectLabels
from components.tflite_converter import TFLiteConverter
from components.validation_gate import ValidationGate
from components.warm_start import WarmStart
from components.worst_mistakes import WorstMistakes
from core import rules, secrets
from core.artifacts.features import UNVARIED, FeatureConfig, Variants
from core.artifacts.ingest_record import REGRESSION_EXAMPLES
from core.artifacts.monitoring import MonitoringConfig
from core.artifacts.predictions import ALL, REGRESSIONS
from core.checkout import from_checkout
from core.settings import Settings, converter, to_dict
from core.settings.backbone import BLOCKS
from pipeline.code_hash import code_hash
from pipeline.deployment import Deployment, portable, push_to, train_args
from pipeline.provenance import hashes
from pipeline.runners.beam_engines import options_for
from pipeline.runs.comparison import flattened
from pipeline.runs.metadata import connection_config
from pipeline.runs.run_dir import ARTIFACTS, push_folder, run_dir
from pipeline.schema import bucket_boundaries, class_names, feature_names
from pipeline.serving_validator import serving_validator


def create_pipeline(
    settings: Settings,
    deployment: Deployment,
    schema: str,
    metadata_connection: metadata_store_pb2.ConnectionConfig | None = None,
) -> Pipeline:
    """Wires the components; nothing runs yet.

    Args:
        schema: the reviewed one, in protobuf's text format.
        metadata_connection: None where the orchestrator brings its own ML Metadata.
    """
    data = _data(settings, deployment, schema)
    extraction, backbone, features = _features(settings, deployment, data)
    training, model, model_run = _training(settings, deployment, data, backbone, features or data.examples)
    judging, predictions, gate = _judging(
        settings, deployment, data, model, model_run, features, bucket_boundaries(schema)
    )
    release = _release(settings, deployment, data, backbone, model, features, predictions, gate)
    components = [*data.nodes, *extraction, *training, *judging, *release]
    for component in components:
        if isinstance(component, BaseBeamComponent):
            options = options_for(settings.runtime.beam, component.id)
            component.with_beam_pipeline_args([_resolved_late(option) for option in options])
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=deployment.pipeline_root,
        components=components,
        enable_cache=settings.runtime.cache,
        metadata_connection_config=metadata_connection,
    )


def _resolved_late(option: str) -> str | Placeholder:
    """A pipeline option of Beam whose references to environment variables TFX's launcher resolves, at the last moment.

    The pipeline's text, its cache key and ML Metadata so hold the variable's name.
    """
    first, *rest = secrets.VARIABLE.split(option)  # text, name, text, name, …
    parts = [part if place % 2 else environment_variable(part) for place, part in enumerate(rest)]
    return functools.reduce(operator.add, parts, first)


def local_pipeline(
    settings: Settings,
    root: Path,
    schema: str,
    images: str,
    weights_fingerprint: str,
    schema_inferred: bool = False,
) -> Pipeline:
    """The pipeline with artifacts, ML Metadata and pushed versions in its own folder; arguments as of `Deployment`."""
    folder = run_dir(settings, root)
    deployment = Deployment(
        pipeline_root=str(folder / ARTIFACTS),
        images=images,
        push_directory=push_folder(settings, root),
        weights_fingerprint=weights_fingerprint,
        schema_inferred=schema_inferred,
    )
    return create_pipeline(settings, deployment, schema, connection_config(folder, settings.runtime.metadata))


class _Data(NamedTuple):
    """Images as tf.Examples, how they are preprocessed, and what ends the run where nothing should learn from them."""

    nodes: list[BaseNode]
    examples: BaseChannel
    record: BaseChannel
    schema: BaseChannel
    transform_graph: BaseChannel
    gate: BaseNode


def _data(settings: Settings, deployment: Deployment, schema: str) -> _Data:
    data = settings.data
    examples = ImageExampleGen(
        input_base=deployment.images,
        span=None if data.span == "latest" else data.span,
        config=data.ingestion(bucket_boundaries(schema)),
        code=code_hash("components.image_example_gen"),
    )
    importer = SchemaImporter(text=schema, code=code_hash("components.schema_importer")).with_id("ImportSchemaGen")
    imported_schema = importer.outputs["schema"]
    statistics = StatisticsGen(
        examples=examples.outputs["examples"],
        schema=imported_schema,
        stats_options=tfdv.StatsOptions(
            feature_allowlist=feature_names(schema),
            use_sketch_based_topk_uniques=True,  # in the one pass of the rest; exact up to 16,384 values of a feature
            num_rank_histogram_buckets=max(1000, len(class_names(schema))),  # TFDV's default, but at least every class
        ),
    )
    anomalies = ExampleValidator(statistics=statistics.outputs["statistics"], schema=imported_schema)
    baseline = deployment.resolvers.data_baseline(statistics.outputs["statistics"])
    gate = ValidationGate(
        anomalies=anomalies.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        examples=examples.outputs["examples"],
        baseline=baseline.outputs["baseline"] if baseline else None,
        rejects=examples.outputs["rejects"],
        schema_file="" if deployment.schema_inferred else from_checkout(settings.schema_file),
        max_rejected=data.max_rejected,
        min_class_images=data.min_class_images,
        small_classes=data.small_classes,
        bounds=converter.to_json(data.bounds),
        group_by=data.group_by or "",
        abstain=converter.to_json(settings.abstain) if settings.abstain else "",
        code=code_hash("components.validation_gate"),
    )
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=imported_schema,
        preprocessing_fn="trainer.preprocessing.preprocessing_fn",
        custom_config={
            "image_size": settings.backbone.image_size,
            "transparent": data.transparent,
            "stretch": data.stretch,
            "code": code_hash("trainer.preprocessing"),
        },
        materialize=False,
        disable_statistics=True,
    )
    return _Data(
        _present(examples, importer, statistics, anomalies, baseline, gate, transform),
        examples.outputs["examples"],
        examples.outputs["rejects"],
        imported_schema,
        transform.outputs["transform_graph"],
        gate,
    )


def _features(
    settings: Settings, deployment: Deployment, data: _Data
) -> tuple[list[BaseNode], BaseChannel, BaseChannel | None]:
    """The nodes, the pre-trained network, and its features; none where nothing is frozen."""
    backbone = settings.backbone
    outputs = sorted({backbone.output, *(settings.tuner.output if settings.tuner else ())}, key=BLOCKS.index)
    base = BackboneImporter(
        settings=converter.to_json(dataclasses.replace(backbone, output=outputs[-1])),
        fingerprint=deployment.weights_fingerprint,
        code=code_hash("components.backbone_importer"),
    )
    network = base.outputs["backbone"]
    cut = rules.features_cut(settings.trainer)
    if cut is None:
        return [base], network, None
    augmentation = settings.training.augmentation
    config = converter.to_json(
        FeatureConfig(
            cut=cut,
            outputs=tuple(outputs),
            batch_size=settings.runtime.feature_batch_size,
            bfloat16=settings.runtime.bfloat16,
            variants=Variants(augmentation, settings.training.seed) if augmentation else UNVARIED,
        )
    )
    code = code_hash("components.feature_extractor")
    inputs = {"examples": data.examples, "transform_graph": data.transform_graph, "backbone": network}
    earlier = deployment.resolvers.earlier_features(config, code, **inputs)
    features = FeatureExtractor(
        **inputs, earlier=earlier.outputs["features"] if earlier else None, config=config, code=code
    )
    features.add_upstream_node(data.gate)
    return _present(base, earlier, features), network, features.outputs["features"]


def _training(
    settings: Settings, deployment: Deployment, data: _Data, backbone: BaseChannel, examples: BaseChannel
) -> tuple[list[BaseNode], BaseChannel, BaseChannel]:
    """The nodes, the trained model, with what it is converted to, and the record of its training."""
    trainer_settings, search = converter.to_json(settings.trainer), converter.to_json(settings.tuner)
    inputs = {"examples": examples, "transform_graph": data.transform_graph}
    base_model = backbone
    last_blessed = warm_start = tuner = None
    if settings.training.warm_start:
        asked = json.dumps([trainer_settings, search, code_hash("trainer.run"), code_hash("trainer.tuning")])
        last_blessed = deployment.resolvers.last_blessed(asked, backbone=backbone, **inputs)
        warm_start = WarmStart(
            **inputs,
            backbone=backbone,
            model=last_blessed.outputs["model"],
            training=asked,
            code=code_hash("components.warm_start"),
        )
        base_model = warm_start.outputs["base"]
    shared: dict[str, Any] = {
        **inputs,
        "schema": data.schema,
        "base_model": base_model,
        "train_args": deployment.train_args or train_args(settings.training.steps),
        "eval_args": trainer_pb2.EvalArgs(splits=["eval"]),
    }
    if settings.tuner:
        tuner = Tuner(
            **shared,
            tuner_fn="trainer.tuning.tuner_fn",
            custom_config={"trainer": trainer_settings, "tuner": search, "code": code_hash("trainer.tuning")},
        )
    trainer = Trainer(
        **shared,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        run_fn="trainer.run.run_fn",
        custom_config={"trainer": trainer_settings, "code": code_hash("trainer.run")},
    )
    for node in (trainer, tuner) if tuner else (trainer,):
        node.add_upstream_node(data.gate)
    nodes, model = _present(last_blessed, warm_start, tuner, trainer), trainer.outputs["model"]
    record = trainer.outputs["model_run"]
    if not settings.export:
        return nodes, model, record
    tflite = TFLiteConverter(
        model=model,
        examples=data.examples,
        formats=converter.to_json(settings.export),
        code=code_hash("components.tflite_converter"),
    )
    return [*nodes, tflite], tflite.outputs["converted"], record


def _judging(
    settings: Settings,
    deployment: Deployment,
    data: _Data,
    model: BaseChannel,
    model_run: BaseChannel,
    features: BaseChannel | None,
    boundaries: dict[str, list[float]],
) -> tuple[list[BaseNode], BaseChannel, BaseNode]:
    """The nodes, the predictions for the test images, and what says whether they speak for the model."""
    baseline = deployment.resolvers.baseline(model)
    models = {"model": model, "baseline_model": baseline.outputs["model"]}
    predictor = Predictor(**models, examples=data.examples, features=features, code=code_hash("components.predictor"))
    evaluator = Evaluator(
        **models,
        examples=predictor.outputs["materialized_predictions"],
        eval_config=eval_config(settings.evaluation.slices),
        example_splits=["test"],
    )
    past: list[BaseNode] = []
    regressions: dict[str, BaseChannel] = {}
    if folder := settings.evaluation.regressions:
        images = ImageExampleGen(
            input_base=folder,
            config=settings.data.regressions(boundaries),
            code=code_hash("components.image_example_gen"),
        ).with_id(REGRESSION_EXAMPLES.node)
        asked = Predictor(
            **models, examples=images.outputs["examples"], split=ALL, code=code_hash("components.predictor")
        ).with_id(REGRESSIONS.node)
        past = [images, asked]
        regressions = {"regressions": asked.outputs["predictions"], "regressions_record": images.outputs["rejects"]}
    gate = ModelGate(
        **models,
        **regressions,
        model_run=model_run,
        evaluation=evaluator.outputs["evaluation"],
        predictions=predictor.outputs["predictions"],
        settings=converter.to_json(settings.evaluation),
        monitoring=converter.to_json(MonitoringConfig(boundaries, slice_features.NAMES, settings.monitoring)),
        code=code_hash("components.model_gate"),
    )
    return [baseline, predictor, evaluator, *past, gate], predictor.outputs["predictions"], gate


def _release(
    settings: Settings,
    deployment: Deployment,
    data: _Data,
    backbone: BaseChannel,
    model: BaseChannel,
    features: BaseChannel | None,
    predictions: BaseChannel,
    gate: BaseNode,
) -> list[BaseNode]:
    """The serving check, the push of what passed, and what only the report shows."""
    infra = serving_validator(settings.serving, model, data.examples)
    if settings.serving.limits_latency:
        infra.add_upstream_node(gate)  # stages that run beside it would slow it down
    directory = deployment.push_directory
    plain = to_dict(settings) if isinstance(directory, str) else portable(settings)
    # The blessings are wired, not only conditions: Airflow ignores tfx.dsl.Cond.
    pusher = Pusher(
        model=model,
        model_blessing=gate.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        examples=data.examples,
        backbone=backbone,
        push_destination=push_to(directory) if isinstance(directory, str) else directory,
        # A pushed version never changes: words for its card that were edited make a new one.
        custom_config={
            "card": converter.to_dict(settings.card),
            "approval": settings.push.approval == "required",
            "signing_key": settings.push.signing_key,
            "origin": {"settings": plain, **hashes()},
            "code": code_hash("components.pusher"),
        },
    )
    mistakes = WorstMistakes(
        model=model,
        examples=data.examples,
        predictions=predictions,
        features=features,
        code=code_hash("components.worst_mistakes"),
    )
    suspects = None
    if features is not None:
        suspects = SuspectLabels(
            examples=data.examples,
            features=features,
            record=data.record,
            group_by=settings.data.group_by or "",
            code=code_hash("components.suspect_labels"),
        )
    for node in _present(mistakes, suspects):
        node.add_upstream_node(pusher)  # only the report shows what they find: they must not hold up a push
    publisher = None
    if settings.publish == "mlflow":
        publisher = MlflowPublisher(
            pushed_model=pusher.outputs["pushed_model"],
            blessing=gate.outputs["blessing"],
            settings=converter.to_json(settings.mlflow),
            pipeline_name=settings.name,
            parameters=json.dumps(dict(flattened(converter.to_dict(settings.trainer)))),
            code=code_hash("components.mlflow_publisher"),
        )
    return _present(infra, pusher, mistakes, suspects, publisher)


def _present(*nodes: BaseNode | None) -> list[BaseNode]:
    return [node for node in nodes if node is not None]
