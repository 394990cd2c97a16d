"""Predictor: what the candidate and the last blessed model say of every test image, each asked once.

The Evaluator measures from these answers, so no image goes through a model again for it, and the gate compares the two
models image by image. A last blessed model that cannot be compared with ends no run: the reason is kept for the gate.
"""

import io
import json
import logging

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InferenceResult, Model
from tfx.utils import path_utils

from components.evaluation.prediction_dofn import Classify, read_scores, why_not_comparable
from components.serving.served_model import class_names
from core import progress, tfrecords
from core.artifacts.predictions import (
    BASELINE,
    CANDIDATE,
    CLASSES_FILE,
    PREDICTIONS_FILE,
    SCORES_FILE,
    read_predictions,
)

COMPARED = "compared"
"""Property of both outputs: 1 if they hold the baseline's answers."""

NOT_COMPARED = "not_compared"
"""Property of `predictions`: why they do not, in a sentence; absent if they do."""


Predictions = InferenceResult
"""Holds `PREDICTIONS_FILE`, `CLASSES_FILE` and `SCORES_FILE`. TFX's type: Vertex AI knows none of ours."""


@component(use_beam=True)
def Predictor(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    predictions: OutputArtifact[Predictions],
    answers: OutputArtifact[Examples],
    baseline_model: InputArtifact[Model] = None,
    split: Parameter[str] = "test",
    batch_size: Parameter[int] = 32,
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Classifies the split once with each model, in batches, through the signature that serves.

    Args:
        model: the exported model.
        examples: raw examples.
        predictions: gets `PREDICTIONS_FILE`, in no particular order, `CLASSES_FILE` and `SCORES_FILE`.
        answers: gets the same split without images: label, slices, and both models' probabilities.
        baseline_model: the last blessed model, if there is one.
        split: the split to classify.
        batch_size: images sent to a model at a time; bounds the memory.
        code: hash of this component's source, so that TFX's cache notices when it changes.
        beam_pipeline: what TFX makes of the runner's arguments.

    Raises:
        ValueError: there are not as many answers as images, a fault of ours.
    """
    del code
    uri = artifact_utils.get_split_uri([examples], split)
    counted = f"examples_{split}"
    total = examples.get_int_custom_property(counted) if examples.has_custom_property(counted) else None
    directories = {CANDIDATE: _directory(model)}
    problem = "there is no blessed model yet"
    if baseline_model is not None:
        problem = why_not_comparable(
            _directory(baseline_model), directories[CANDIDATE], list(tfrecords.read(f"{uri}/*", most=1))
        )
        if not problem:
            directories[BASELINE] = _directory(baseline_model)
        else:
            logging.getLogger(__name__).warning("%s: %s", baseline_model.uri, problem)
    fileio.makedirs(predictions.uri)
    with fileio.open(f"{predictions.uri}/{CLASSES_FILE}", "w") as file:
        file.write(json.dumps(class_names(directories[CANDIDATE])))
    answers.split_names = artifact_utils.encode_split_names([split])
    examples_utils.set_payload_format(answers, example_gen_pb2.FORMAT_TF_EXAMPLE)
    written = f"{artifact_utils.get_split_uri([answers], split)}/answers"
    with beam_pipeline as pipeline:
        given = (
            pipeline
            | "Read" >> beam.io.ReadFromTFRecord(f"{uri}/*")
            | "Batch" >> beam.BatchElements(min_batch_size=batch_size, max_batch_size=batch_size)
            | "Classify" >> beam.ParDo(Classify(directories, Shared(), total))
        )
        _ = (
            given
            | "Lines" >> beam.Map(lambda pair: pair[0].to_json())
            | "WriteLines"
            >> beam.io.WriteToText(f"{predictions.uri}/{PREDICTIONS_FILE}", num_shards=1, shard_name_template="")
        )
        _ = given | "Examples" >> beam.Map(lambda pair: pair[1]) | "WriteExamples" >> beam.io.WriteToTFRecord(written)
    scores = io.BytesIO()
    np.savez_compressed(scores, **read_scores(f"{written}*", directories))
    with fileio.open(f"{predictions.uri}/{SCORES_FILE}", "wb") as file:
        file.write(scores.getvalue())
    with fileio.open(f"{predictions.uri}/{PREDICTIONS_FILE}") as file:
        right = [prediction.right for prediction in read_predictions(file)]
    if total is not None and len(right) != total:
        raise ValueError(f"{total} images were written to {split}; {len(right)} have an answer")
    mistakes = len(right) - sum(right)
    predictions.set_int_custom_property("examples", len(right))
    predictions.set_int_custom_property("mistakes", mistakes)
    for artifact in (predictions, answers):
        artifact.set_int_custom_property(COMPARED, int(not problem))
    if problem:
        predictions.set_string_custom_property(NOT_COMPARED, problem)
    progress.report(len(right), total, "images", f"{mistakes} mistakes")


def _directory(model: Model) -> str:
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
