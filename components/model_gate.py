"""ModelGate: blesses a model that reaches the bounds, on the entire test split and on every slice.

TFX's Evaluator can bless too, but applies a metric's bound to every slice however small, silently accepts missing
baselines, blesses nothing if no bound is set (tensorflow/tfx#5148), and does not say why. This component emits the same
ModelBlessing, which Pusher and LatestBlessedModelStrategy read.
"""

import collections
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import InferenceResult, Model, ModelBlessing, ModelEvaluation, ModelRun

from components.evaluation import verdict
from components.evaluation.reference import reference
from components.evaluation.regressions import judge_regressions
from components.evaluation.slice_result import Measured
from core import progress, slices
from core.artifacts import blessing as blessings
from core.artifacts import exported_model, ingest_record, tflite_files
from core.artifacts.monitoring import REFERENCE, MonitoringConfig
from core.artifacts.predictions import CANDIDATE, NOT_COMPARED, read_predictions, read_scores
from core.artifacts.training_summary import SUMMARY
from core.artifacts.verdict import VERDICT
from core.errors import some
from core.settings.converter import from_json
from core.settings.evaluation import EvaluationSettings


@component
def ModelGate(  # noqa: N802 - a component is a class to its users
    evaluation: InputArtifact[ModelEvaluation],
    predictions: InputArtifact[InferenceResult],
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    blessing: OutputArtifact[ModelBlessing],
    baseline_model: InputArtifact[Model] = None,
    regressions: InputArtifact[InferenceResult] = None,
    regressions_record: InputArtifact[File] = None,
    settings: Parameter[str] = "{}",
    monitoring: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Judges a model by its predictions and the Evaluator's metrics. Refusing it does not end the run.

    The blessing has the properties and the marker file of TFX's Evaluator; `gate.json`, a `Verdict`; and the reference
    for monitoring, if `monitoring` is a `MonitoringConfig` as JSON. `model_run` is the record of the training.
    `settings` are `EvaluationSettings` as JSON. `regressions` are the predictions for the images of
    `evaluation.regressions`, `regressions_record` says what became of their files. `code` is a hash of this component's
    source, for TFX's cache.

    Raises:
        InputError: a bounded metric cannot be judged, or nothing was measured.
    """
    del code
    demands, scores = from_json(settings, EvaluationSettings), read_scores(predictions.uri)
    past = None
    if regressions is not None and regressions_record is not None:
        unused = (ingest_record.REJECTS, ingest_record.LEFT_OUT)
        past = judge_regressions(
            demands.regressions or "",
            read_predictions(regressions.uri),
            [one for file in unused for one in file.read(regressions_record.uri)],
            scores.classes,
            demands.max_regressions,
        )
    abstention = SUMMARY.read(model_run.uri).abstention
    asked = read_predictions(predictions.uri)
    judged = verdict.judge(
        read_evaluation(evaluation.uri),
        asked,
        scores,
        demands,
        predictions.get_string_custom_property(NOT_COMPARED) or None,
        past,
        tflite_files.described(exported_model.serving_dir(model.uri)),
        abstention.not_shown if abstention else None,
    )
    fileio.makedirs(blessing.uri)
    VERDICT.write(blessing.uri, judged)
    if monitoring:
        REFERENCE.write(blessing.uri, reference(asked, scores.classes, from_json(monitoring, MonitoringConfig)))
    marker = blessings.BLESSED_FILE if judged.blessed else blessings.NOT_BLESSED_FILE
    with fileio.open(f"{blessing.uri}/{marker}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(blessings.BLESSED, int(judged.blessed))
    blessing.set_string_custom_property(blessings.CURRENT_MODEL, model.uri)
    blessing.set_int_custom_property(blessings.CURRENT_MODEL_ID, model.id)
    if baseline_model is not None:
        blessing.set_string_custom_property(blessings.BASELINE_MODEL, baseline_model.uri)
        blessing.set_int_custom_property(blessings.BASELINE_MODEL_ID, baseline_model.id)
    refused = "refused: " + some(judged.reasons, shown=3)
    kept = "bounds met" if judged.judged or judged.regressions else "no bounds"
    progress.report(1, 1, "models", kept if judged.blessed else refused)


def read_evaluation(directory: str) -> list[Measured]:
    """TFMA's metrics for the entire split and every slice, from its output, local or remote."""
    import tensorflow_model_analysis as tfma  # 19 s, unless the Evaluator ran in this process

    found = []
    for record in tfma.load_metrics(directory):
        examples, metrics = 0, collections.defaultdict[str, dict[str, float]](dict)
        for item in record.metric_keys_and_values:
            model = item.key.model_name or CANDIDATE  # TFMA leaves the name out where there is only one model
            if not item.value.HasField("double_value") or item.key.is_diff:
                continue
            if item.key.name == "example_count":
                examples = int(item.value.double_value.value)
            else:
                metrics[model][item.key.name] = item.value.double_value.value
        found.append(Measured(_parts(record.slice_key), examples, metrics))
    return found


def _parts(key: Any) -> tuple[tuple[str, str], ...]:
    """A TFMA SliceKey with the names used in settings."""
    parts = []
    for single in key.single_slice_keys:
        value = getattr(single, single.WhichOneof("kind"))
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else f"{value:g}"
        parts.append((slices.name_of(single.column), text))
    return tuple(parts)
