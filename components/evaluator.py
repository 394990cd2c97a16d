"""Evaluator: TFX's own, on predictions that Predictor has made.

TFX passes a baseline to TFMA whenever the pipeline has one; if Predictor could not run it (damaged files, other
classes), TFMA would fail to find its predictions (tensorflow/tfx#4390). And TFMA measures all slices, which takes
minutes for 5,000 patients, so ModelGate measures such slices.
"""

import itertools
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx import types
from tfx.components.evaluator import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs

from components.evaluation import slicing
from core import tfrecords
from core.artifacts.predictions import NOT_COMPARED, SPLIT


class Executor(executor.Executor):
    """Leaves out the baseline if the examples have no predictions of it, and slices by features of many values."""

    def Do(  # noqa: N802, D102 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        predictions = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        given = dict(input_dict)
        if predictions.has_custom_property(NOT_COMPARED):
            given.pop(standard_component_specs.BASELINE_MODEL_KEY, None)
        config = json_format.Parse(exec_properties[standard_component_specs.EVAL_CONFIG_KEY], tfma.EvalConfig())
        uri = artifact_utils.get_split_uri([predictions], SPLIT)
        records = map(tfrecords.values, tfrecords.read(f"{uri}/*"))
        few = slicing.few_valued([spec.feature_keys for spec in config.slicing_specs], records)
        kept = list(itertools.compress(config.slicing_specs, few))
        del config.slicing_specs[:]
        config.slicing_specs.extend(kept)
        measured = {standard_component_specs.EVAL_CONFIG_KEY: json_format.MessageToJson(config)}
        super().Do(given, output_dict, exec_properties | measured)


class Evaluator(component.Evaluator):
    """As TFX's; `examples` are the `materialized_predictions` of Predictor."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
