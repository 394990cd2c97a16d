"""ModelGate: blesses a model that reaches the bounds, on the whole test split, against its baseline and on every slice.

TFX's Evaluator can bless too, but applies a metric's bound to every slice however small, lets missing baselines pass
unseen, blesses nothing where no bound is set (tensorflow/tfx#5148), and does not say why. The ModelBlessing that this
component emits is the Evaluator's: Pusher and LatestBlessedModelStrategy read it.
"""

import json
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation

from components import verdict
from trainer import progress

REPORT_FILE = "gate.json"

# As in tfx/components/evaluator/constants.py, which takes 22 s to import.
BLESSED_FILE, NOT_BLESSED_FILE = "BLESSED", "NOT_BLESSED"
BLESSED = "blessed"
CURRENT_MODEL, CURRENT_MODEL_ID = "current_model", "current_model_id"
BASELINE_MODEL, BASELINE_MODEL_ID = "baseline_model", "baseline_model_id"

_CANDIDATE, _BASELINE = "candidate", "baseline"  # TFMA leaves the name out where there is only one model
_COUNT = "example_count"
_SLICE_PREFIX = "slice/"


@component
def ModelGate(  # noqa: N802 - a component is a class to its users
    evaluation: InputArtifact[ModelEvaluation],
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    baseline_model: InputArtifact[Model] = None,
    bounds: Parameter[str] = "{}",
    code: Parameter[str] = "",
) -> None:
    """Judges a model by what the Evaluator measured. A model that is refused is a result: the run goes on.

    Args:
        evaluation: the Evaluator's output.
        model: the candidate.
        blessing: gets the properties and the marker file of TFX's Evaluator, and `gate.json`: a `Verdict`.
        baseline_model: the model the candidate was compared with, if there was one.
        bounds: JSON, see components/verdict.py.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        InputError: a bound is set on a metric that is not measured, or nothing was measured.
    """
    del code
    candidate, baseline = read_evaluation(evaluation.uri)
    judged = verdict.judge(candidate, baseline, json.loads(bounds))
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{REPORT_FILE}", "w") as file:
        file.write(json.dumps(judged.to_dict(), indent=2, allow_nan=False) + "\n")
    with fileio.open(f"{blessing.uri}/{BLESSED_FILE if judged.blessed else NOT_BLESSED_FILE}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(BLESSED, int(judged.blessed))
    blessing.set_string_custom_property(CURRENT_MODEL, model.uri)
    blessing.set_int_custom_property(CURRENT_MODEL_ID, model.id)
    if baseline_model is not None:
        blessing.set_string_custom_property(BASELINE_MODEL, baseline_model.uri)
        blessing.set_int_custom_property(BASELINE_MODEL_ID, baseline_model.id)
    refused = "refused: " + "; ".join(f.message for f in judged.failures)
    progress.report(1, 1, "models", "blessed" if judged.blessed else refused)


def read_evaluation(directory: str) -> tuple[list[verdict.Measured], list[verdict.Measured] | None]:
    """Reads the metrics TFMA wrote.

    Args:
        directory: TFMA's output, local or of any file system TensorFlow reads.

    Returns:
        What was measured of the candidate, and of the baseline, None if there was none; the whole split and all slices.
    """
    import tensorflow_model_analysis as tfma  # 19 s, unless the Evaluator ran in this process

    candidate: list[verdict.Measured] = []
    baseline: list[verdict.Measured] = []
    for record in tfma.load_metrics(directory):
        values: dict[str, dict[str, float]] = {_CANDIDATE: {}, _BASELINE: {}}
        for item in record.metric_keys_and_values:
            if item.value.HasField("double_value") and not item.key.is_diff:
                values[item.key.model_name or _CANDIDATE][item.key.name] = item.value.double_value.value
        name = _slice_name(record.slice_key)
        examples = int(max(model.pop(_COUNT, 0) for model in values.values()))
        candidate.append(verdict.Measured(name, examples, values[_CANDIDATE]))
        if values[_BASELINE]:
            baseline.append(verdict.Measured(name, examples, values[_BASELINE]))
    return candidate, baseline or None


def _slice_name(key: Any) -> str:
    """A TFMA SliceKey in the words of the settings: `label=roses`, `label=roses, brightness=dark` where crossed."""
    parts = []
    for single in key.single_slice_keys:
        value = getattr(single, single.WhichOneof("kind"))
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else f"{value:g}"
        parts.append(f"{single.column.removeprefix(_SLICE_PREFIX)}={text}")
    return ", ".join(parts) or verdict.OVERALL
