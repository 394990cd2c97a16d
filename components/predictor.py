"""Predictor: what the candidate and the last blessed model predict for every test image, each asked once.

The Evaluator measures from these predictions, so no image goes through a model again for it, and the gate compares the
two models image by image. A last blessed model that cannot be compared with ends no run: the gate learns why.
"""

import logging

import apache_beam as beam
import msgspec
from apache_beam.utils.shared import Shared
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components.evaluation.prediction_dofn import Predict, collect_score_bins, why_not_comparable
from core import progress, tfrecords
from core.artifacts import exported_model
from core.artifacts.ingest_record import count_property
from core.artifacts.predictions import BASELINE, CANDIDATE, NOT_COMPARED, PREDICTIONS_FILE, SPLIT, write_scores


@component(use_beam=True)
def Predictor(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: OutputArtifact[InferenceResult],
    materialized_predictions: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    split: Parameter[str] = SPLIT,
    batch_size: Parameter[int] = 32,
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Classifies the split once with each model, in batches, through the signature that serves.

    `core.artifacts.predictions` describes both outputs, whose types are TFX's, since Vertex AI knows none of ours.
    `batch_size` bounds the memory; `code` is a hash of this component's source, so that TFX's cache notices when it
    changes.

    Raises:
        ValueError: there are not as many predictions as images, an internal error.
    """
    del code
    uri = artifact_utils.get_split_uri([examples], split)
    counted = count_property(split)
    total = examples.get_int_custom_property(counted) if examples.has_custom_property(counted) else None
    directories = {CANDIDATE: exported_model.serving_dir(model.uri)}
    problem = "there is no blessed model yet"
    if baseline_model is not None:
        baseline = exported_model.serving_dir(baseline_model.uri)
        problem = why_not_comparable(baseline, directories[CANDIDATE], list(tfrecords.read(f"{uri}/*", most=1)))
        if not problem:
            directories[BASELINE] = baseline
        else:
            logging.getLogger(__name__).warning("%s: %s", baseline_model.uri, problem)
    fileio.makedirs(predictions.uri)
    materialized_predictions.split_names = artifact_utils.encode_split_names([split])
    examples_utils.set_payload_format(materialized_predictions, example_gen_pb2.FORMAT_TF_EXAMPLE)
    materialized = f"{artifact_utils.get_split_uri([materialized_predictions], split)}/predictions"
    with beam_pipeline as pipeline:
        predicted = (
            pipeline
            | "Read" >> beam.io.ReadFromTFRecord(f"{uri}/*")
            | "Batch" >> beam.BatchElements(min_batch_size=batch_size, max_batch_size=batch_size)
            | "Predict" >> beam.ParDo(Predict(directories, Shared(), total))
        )
        _ = (
            predicted
            | "Lines" >> beam.Map(lambda pair: msgspec.json.encode(pair[0]))
            | "WriteLines"
            >> beam.io.WriteToText(PREDICTIONS_FILE.path(predictions.uri), num_shards=1, shard_name_template="")
        )
        _ = (
            predicted
            | "Examples" >> beam.Map(lambda pair: pair[1])
            | "WriteExamples" >> beam.io.WriteToTFRecord(materialized)
        )
    scores = collect_score_bins(f"{materialized}*", directories)
    write_scores(predictions.uri, exported_model.class_names(directories[CANDIDATE]), scores)
    right = [prediction.right for prediction in PREDICTIONS_FILE.read(predictions.uri)]
    if total is not None and len(right) != total:
        raise ValueError(f"{total} images were written to {split}; {len(right)} have a prediction")
    mistakes = len(right) - sum(right)
    predictions.set_int_custom_property("examples", len(right))
    predictions.set_int_custom_property("mistakes", mistakes)
    if problem:
        for artifact in (predictions, materialized_predictions):
            artifact.set_string_custom_property(NOT_COMPARED, problem)
    progress.report(len(right), total, "images", f"{mistakes} mistakes")
