"""Evaluator: TFX's own, on predictions that were made before it.

TFX passes a baseline on to TFMA whenever the pipeline has one; where Predictor could not run it (its files are
damaged, it has other classes), TFMA would look in vain for its predictions (tensorflow/tfx#4390).
"""

from typing import Any

from tfx import types
from tfx.components.evaluator import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs

from core.artifacts.predictions import NOT_COMPARED


class Executor(executor.Executor):
    """Leaves the baseline out if the examples hold no predictions of it."""

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
        super().Do(given, output_dict, exec_properties)


class Evaluator(component.Evaluator):
    """As TFX's; `examples` are the `materialized_predictions` of Predictor."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
