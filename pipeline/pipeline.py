"""create_pipeline: the one list of components, the same for every runner."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import tensorflow_data_validation as tfdv
from ml_metadata.proto import metadata_store_pb2
from tfx.components import ExampleValidator, Pusher, StatisticsGen, Trainer, Transform, Tuner
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import Channel
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Model, ModelBlessing

from components.backbone_importer import BackboneImporter
from components.baseline import BaselineStrategy
from components.data_baseline import DataBaselineStrategy
from components.earlier_features import EarlierFeaturesStrategy
from components.evaluation.eval_config import eval_config
from components.evaluator import Evaluator
from components.feature_extractor import FeatureExtractor
from components.features.feature_extraction import UNVARIED, Variants
from components.image_example_gen import ImageExampleGen
from components.model_gate import ModelGate
from components.predictor import Predictor
from components.schema_importer import SchemaImporter
from components.validation_gate import ValidationGate
from components.warm_start import LastBlessedStrategy, WarmStart
from components.worst_mistakes import WorstMistakes
from core import rules
from core.errors import InputError
from core.settings import converter
from core.settings.loading import Settings
from core.settings.training import BLOCKS
from pipeline.code_hash import code_hash
from pipeline.infra import serving_validator
from pipeline.schema import bucket_edges, class_names, feature_names

_LISTED_VALUES = 1000
"""Of each feature, in the statistics: TFDV's default."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run finds and leaves things; what differs between a laptop and a cluster.

    Any folder may be remote (`gs://…`). Where runs are started with parameters, some of these are TFX's
    RuntimeParameters.

    Attributes:
        pipeline_root: the folder of all artifacts.
        images: the folder of class folders, or a pattern of such folders; see `components.ingestion.spans`.
        push_directory: where blessed models are pushed, each in a folder named by its version; as a RuntimeParameter,
            its value is `push_to` as JSON.
        train_args: as a RuntimeParameter, its value is `train_args` as JSON; None takes the steps from the settings.
        push_nonce: changes when the push directory was made anew, so that a cached push is not taken for a present one.
        weights_fingerprint: says which content `backbone.weights` stands for.
        own_resolvers: whether the orchestrator runs resolver strategies that are not TFX's; Vertex AI does not.
    """

    pipeline_root: str
    images: str | RuntimeParameter
    push_directory: str | RuntimeParameter
    train_args: RuntimeParameter | None = None
    push_nonce: str = ""
    weights_fingerprint: str = ""
    own_resolvers: bool = True


def push_to(directory: str) -> pusher_pb2.PushDestination:
    """A folder that gets a subfolder for each version, named by a number."""
    return pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=directory))


def train_args(steps: int) -> trainer_pb2.TrainArgs:
    """What the Trainer is told beside its settings."""
    return trainer_pb2.TrainArgs(splits=["train"], num_steps=steps)


def create_pipeline(
    settings: Settings,
    places: Places,
    schema: str,
    metadata_connection: metadata_store_pb2.ConnectionConfig | None = None,
) -> Pipeline:
    """Wires the components; nothing runs yet.

    Args:
        settings: checked settings.
        places: where things are.
        schema: the reviewed schema, in protobuf's text format.
        metadata_connection: of the ML Metadata store; None where the orchestrator brings its own.

    Raises:
        InputError: a setting asks for what the orchestrator cannot do.
    """
    if not places.own_resolvers and (settings.training.warm_start or settings.data.window > 1):
        raise InputError(
            "training.warm_start and data.window need a resolver and a driver of ours, and Vertex AI runs only TFX's; "
            "leave them out there"
        )
    backbone = settings.backbone
    cut = rules.features_cut(settings.trainer)
    outputs = sorted({backbone.output, *(settings.tuner.output if settings.tuner else ())}, key=BLOCKS.index)

    examples = ImageExampleGen(
        input_base=places.images,
        span=None if settings.data.span == "latest" else settings.data.span,
        window=settings.data.window,
        splits=settings.data.splits,
        metadata=settings.data.metadata,
        group_by=settings.data.group_by,
        layout=settings.data.layout,
        near_duplicates=settings.data.near_duplicates.distance if settings.data.near_duplicates else None,
        edges=bucket_edges(schema),
        limits=settings.data.limits,
        code=code_hash("components.image_example_gen"),
    )
    raw = examples.outputs["examples"]
    imported_schema = SchemaImporter(text=schema, code=code_hash("components.schema_importer")).with_id(
        "ImportSchemaGen"
    )
    statistics = StatisticsGen(
        examples=raw,
        schema=imported_schema.outputs["schema"],
        stats_options=tfdv.StatsOptions(
            feature_allowlist=feature_names(schema),
            num_rank_histogram_buckets=max(_LISTED_VALUES, len(class_names(schema))),  # every class, to compare them
        ),
    )
    anomalies = ExampleValidator(statistics=statistics.outputs["statistics"], schema=imported_schema.outputs["schema"])
    data_baseline = None
    if places.own_resolvers:
        data_baseline = Resolver(
            strategy_class=DataBaselineStrategy,
            statistics=statistics.outputs["statistics"],
            baseline=Channel(type=ExampleStatistics),
            model=Channel(type=Model),
            model_blessing=Channel(type=ModelBlessing),
        ).with_id("DataBaseline")
    validation_gate = ValidationGate(
        anomalies=anomalies.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        examples=raw,
        baseline=data_baseline.outputs["baseline"] if data_baseline else None,
        rejects=examples.outputs["rejects"],
        schema_file=str(settings.schema_file),
        max_rejected=settings.data.max_rejected,
        bounds=json.dumps(dataclasses.asdict(settings.data.bounds)),
        group_by=settings.data.group_by or "",
        code=code_hash("components.validation_gate"),
    )
    transform = Transform(
        examples=raw,
        schema=imported_schema.outputs["schema"],
        preprocessing_fn="trainer.preprocessing.preprocessing_fn",
        custom_config={"image_size": backbone.image_size, "code": code_hash("trainer.preprocessing")},
        materialize=False,
        disable_statistics=True,
    )
    transform.add_upstream_node(validation_gate)
    base = BackboneImporter(
        weights=backbone.weights,
        if_unreachable=backbone.if_unreachable,
        image_size=backbone.image_size,
        output=outputs[-1],
        fingerprint=places.weights_fingerprint,
        code=code_hash("components.backbone_importer"),
    )
    features = earlier = None
    if cut is not None:
        augmentation = settings.training.augmentation
        variants = Variants(augmentation, settings.training.seed) if augmentation else UNVARIED
        how: dict[str, Any] = {
            "cut": cut,
            "outputs": outputs,
            "batch_size": settings.runtime.feature_batch_size,
            "bfloat16": settings.runtime.bfloat16,
            "code": code_hash("components.feature_extractor"),
        }
        parameters = json.dumps([how, variants.to_json()])
        if places.own_resolvers:
            earlier = Resolver(
                strategy_class=EarlierFeaturesStrategy,
                config={"parameters": parameters},
                examples=raw,
                features=Channel(type=Examples),
            ).with_id("EarlierFeatures")
        features = FeatureExtractor(
            examples=raw,
            transform_graph=transform.outputs["transform_graph"],
            backbone=base.outputs["backbone"],
            earlier=earlier.outputs["features"] if earlier else None,
            variants=variants,
            parameters=parameters,
            **how,
        )
    trainer_settings = converter.to_dict(settings.trainer)
    search = converter.make_converter().unstructure(settings.tuner)
    inputs = {
        "examples": features.outputs["features"] if features else raw,
        "transform_graph": transform.outputs["transform_graph"],
    }
    start = base.outputs["backbone"]
    last_blessed = warm_start = None
    if settings.training.warm_start:
        asked = json.dumps([trainer_settings, search, code_hash("trainer.run"), code_hash("trainer.tuning")])
        last_blessed = Resolver(
            strategy_class=LastBlessedStrategy,
            config={"training": asked},
            **inputs,
            backbone=start,
            model=Channel(type=Model),
            model_blessing=Channel(type=ModelBlessing),
        ).with_id("LastBlessed")
        warm_start = WarmStart(
            **inputs,
            backbone=start,
            model=last_blessed.outputs["model"],
            training=asked,
            code=code_hash("components.warm_start"),
        )
        start = warm_start.outputs["base"]
    training: dict[str, Any] = {
        **inputs,
        "schema": imported_schema.outputs["schema"],
        "base_model": start,
        "train_args": places.train_args or train_args(settings.training.steps),
        "eval_args": trainer_pb2.EvalArgs(splits=["eval"]),
    }
    tuner = None
    if settings.tuner:
        tuner = Tuner(
            **training,
            tuner_fn="trainer.tuning.tuner_fn",
            custom_config={"trainer": trainer_settings, "tuner": search, "code": code_hash("trainer.tuning")},
        )
    trainer = Trainer(
        **training,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        run_fn="trainer.run.run_fn",
        custom_config={"trainer": trainer_settings, "code": code_hash("trainer.run")},
    )
    model = trainer.outputs["model"]
    blessed = {"model": Channel(type=Model), "model_blessing": Channel(type=ModelBlessing)}
    baseline = (
        Resolver(strategy_class=BaselineStrategy, candidate=model, **blessed)
        if places.own_resolvers
        else Resolver(strategy_class=LatestBlessedModelStrategy, **blessed)
    ).with_id("Baseline")
    predictions = Predictor(
        model=model,
        baseline_model=baseline.outputs["model"],
        examples=raw,
        code=code_hash("components.predictor"),
    )
    evaluator = Evaluator(
        examples=predictions.outputs["answers"],
        model=model,
        baseline_model=baseline.outputs["model"],
        eval_config=eval_config(
            settings.evaluation.slices, len(class_names(schema)), code_hash("components.evaluation.tfma_metrics")
        ),
        example_splits=["test"],
    )
    gate = ModelGate(
        evaluation=evaluator.outputs["evaluation"],
        predictions=predictions.outputs["predictions"],
        model=model,
        baseline_model=baseline.outputs["model"],
        bounds=json.dumps(
            {
                "thresholds": {name: dataclasses.asdict(b) for name, b in settings.evaluation.thresholds.items()},
                "per_slice": {name: dataclasses.asdict(b) for name, b in settings.evaluation.per_slice.items()},
                "confidence": settings.evaluation.confidence,
                "on_doubt": settings.evaluation.on_doubt,
            }
        ),
        code=code_hash("components.model_gate"),
    )
    infra = serving_validator(settings.serving, model, raw)
    # The blessings are wired, not only conditions: Airflow ignores tfx.dsl.Cond.
    pusher = Pusher(
        model=model,
        model_blessing=gate.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        push_destination=push_to(places.push_directory)
        if isinstance(places.push_directory, str)
        else places.push_directory,
        # A pushed version never changes: words for its card that were edited make a new one.
        custom_config={"nonce": places.push_nonce, "card": dataclasses.asdict(settings.card)},
    )
    mistakes = WorstMistakes(
        model=model,
        examples=raw,
        predictions=predictions.outputs["predictions"],
        image_size=backbone.image_size,
        code=code_hash("components.worst_mistakes"),
    )
    mistakes.add_upstream_node(pusher)  # only the report shows them: they must not hold up a push
    stages = [
        examples,
        imported_schema,
        statistics,
        anomalies,
        data_baseline,
        validation_gate,
        transform,
        base,
        earlier,
        features,
        last_blessed,
        warm_start,
        tuner,
        trainer,
        baseline,
        predictions,
        evaluator,
        gate,
        infra,
        pusher,
        mistakes,
    ]
    components = [component for component in stages if component is not None]
    for component in components:
        if isinstance(component, BaseBeamComponent):
            component.with_beam_pipeline_args(settings.runtime.beam.options_for(component.id))
    return Pipeline(
        pipeline_name=settings.name,
        pipeline_root=places.pipeline_root,
        components=components,
        enable_cache=settings.runtime.cache,
        metadata_connection_config=metadata_connection,
    )
