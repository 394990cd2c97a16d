"""Predictor: what the candidate and the last blessed model predict for every test image, each asked once.

The Evaluator measures from these predictions, so no image goes through a model again for it, and the gate compares the
two models image by image. Both answer from stored features where these are what they would compute themselves, so that
judging another head takes seconds. A last blessed model that cannot be compared with ends no run: the gate learns why.
"""

import logging

import apache_beam as beam
import msgspec
from apache_beam.metrics import MetricsFilter
from apache_beam.utils.shared import Shared
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from components.evaluation.answers import Answers
from components.evaluation.prediction_dofn import CHECKED, DISAGREED, Predict, collect_score_bins, open_baseline
from components.features.feature_index import SharedFeatureIndex
from core import progress, tfrecords
from core.artifacts import exported_model, tflite_files
from core.artifacts.base import split_dir
from core.artifacts.features import FEATURES_FILE
from core.artifacts.ingest_record import count_property
from core.artifacts.predictions import (
    ALL,
    BASELINE,
    CANDIDATE,
    FEATURES_DISAGREED,
    NOT_COMPARED,
    PREDICTIONS_FILE,
    SPLIT,
    read_predictions,
    write_scores,
)


@component(use_beam=True)
def Predictor(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: OutputArtifact[InferenceResult],
    materialized_predictions: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    features: InputArtifact[Examples] = None,
    split: Parameter[str] = SPLIT,
    batch_size: Parameter[int] = 32,
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Classifies the split, or `ALL`, once with each model, in batches.

    `core.artifacts.predictions` describes both outputs, whose types are TFX's, since Vertex AI knows none of ours.
    `features` are FeatureExtractor's; a model that they do not fit is asked about the images, as both are without
    them. What the model was converted to (`core.artifacts.tflite_files`) is asked too. `batch_size` bounds the memory;
    `code` is a hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        ValueError: there are not as many predictions as images, an internal error.
    """
    del code
    splits = artifact_utils.decode_split_names(examples.split_names) if split == ALL else [split]
    uri = split_dir(examples.uri, split)
    counted = [count_property(one) for one in splits if examples.has_custom_property(count_property(one))]
    total = sum(examples.get_int_custom_property(one) for one in counted) if counted else None
    directories = {CANDIDATE: exported_model.serving_dir(model.uri)}
    models = {CANDIDATE: Answers(directories[CANDIDATE])}
    problem = "there is no blessed model yet"
    if baseline_model is not None:
        directory = exported_model.serving_dir(baseline_model.uri)
        baseline = open_baseline(directory, directories[CANDIDATE], list(tfrecords.read(f"{uri}/*", most=1)))
        if isinstance(baseline, Answers):
            directories[BASELINE], models[BASELINE], problem = directory, baseline, ""
        else:
            problem = baseline
            logging.getLogger(__name__).warning("%s: %s", baseline_model.uri, problem)
    stored, files = {}, []
    if features is not None:
        described = FEATURES_FILE.read(features.uri)
        stored = {name: taken for name, asked in models.items() if (taken := asked.takes(described, split))}
        files = tfrecords.find(f"{artifact_utils.get_split_uri([features], split)}/*") if stored else []
    exports = tflite_files.find(directories[CANDIDATE])
    predict = Predict(directories, exports, stored, SharedFeatureIndex(files), Shared(), total)
    worker = predict.acquire(models)  # so that a runner in this process uses them
    fileio.makedirs(predictions.uri)
    written = SPLIT if split == ALL else split
    materialized_predictions.split_names = artifact_utils.encode_split_names([written])
    examples_utils.set_payload_format(materialized_predictions, example_gen_pb2.FORMAT_TF_EXAMPLE)
    materialized = f"{artifact_utils.get_split_uri([materialized_predictions], written)}/predictions"

    def classify(pipeline: beam.Pipeline, predict: Predict) -> None:
        predicted = (
            pipeline
            | "Read" >> beam.io.ReadFromTFRecord(f"{uri}/*")
            | "Batch" >> beam.BatchElements(min_batch_size=batch_size, max_batch_size=batch_size)
            | "Predict" >> beam.ParDo(predict)
        )
        lines = predicted | "Lines" >> beam.Map(lambda pair: msgspec.json.encode(pair[0]))
        file = PREDICTIONS_FILE.path(predictions.uri)
        _ = lines | "WriteLines" >> beam.io.WriteToText(file, num_shards=1, shard_name_template="")
        made = predicted | "Examples" >> beam.Map(lambda pair: pair[1])
        _ = made | "WriteExamples" >> beam.io.WriteToTFRecord(materialized)

    with beam_pipeline as pipeline:
        classify(pipeline, predict)
    counters = pipeline.result.metrics().query(MetricsFilter().with_names((CHECKED, DISAGREED)))["counters"]
    checked, disagreed = (sum(c.result for c in counters if c.key.metric.name == n) for n in (CHECKED, DISAGREED))
    if disagreed:
        said = (
            f"{disagreed} of {checked} test images get other probabilities from their features than from the pictures"
        )
        logging.getLogger(__name__).warning("%s: all are asked about again", said)
        predictions.set_string_custom_property(FEATURES_DISAGREED, said)
        fileio.remove(PREDICTIONS_FILE.path(predictions.uri))
        fileio.rmtree(materialized.rpartition("/")[0])
        with beam.Pipeline(runner=beam_pipeline.runner, options=beam_pipeline.options) as pipeline:
            classify(pipeline, Predict(directories, exports, {}, SharedFeatureIndex([]), predict.shared, total))
    for asked in worker.models.values():
        asked.close()
    scores = collect_score_bins(f"{materialized}*", [*directories, *exports])
    write_scores(predictions.uri, exported_model.class_names(directories[CANDIDATE]), scores)
    ordered = read_predictions(predictions.uri)
    PREDICTIONS_FILE.write(predictions.uri, ordered)
    right = [prediction.right for prediction in ordered]
    if total is not None and len(right) != total:
        raise ValueError(f"{total} images were written to {split}; {len(right)} have a prediction")
    mistakes = len(right) - sum(right)
    predictions.set_int_custom_property("examples", len(right))
    predictions.set_int_custom_property("mistakes", mistakes)
    if problem:
        for artifact in (predictions, materialized_predictions):
            artifact.set_string_custom_property(NOT_COMPARED, problem)
    progress.report(len(right), total, "images", f"{mistakes} mistakes")
