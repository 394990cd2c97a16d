"""ModelGate: blesses a model that reaches the bounds, on the whole test split, against its baseline and on every slice.

TFX's Evaluator can bless too, but applies a metric's bound to every slice however small, lets missing baselines pass
unseen, blesses nothing where no bound is set (tensorflow/tfx#5148), and does not say why. The ModelBlessing that this
component emits is the Evaluator's: Pusher and LatestBlessedModelStrategy read it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import InferenceResult, Model, ModelBlessing, ModelEvaluation

from components.evaluation import verdict
from components.evaluation.predictions import averages
from components.evaluation.slice_result import Measured
from core import progress, slices
from core.artifacts import blessing as blessings
from core.artifacts.predictions import BASELINE, CANDIDATE, NOT_COMPARED, read_predictions, read_scores
from core.artifacts.verdict import OVERALL, VERDICT
from core.metrics import AUC, AVERAGES
from core.settings.converter import from_json
from core.settings.evaluation import GateBounds

_COUNT = "example_count"


@component
def ModelGate(  # noqa: N802 - a component is a class to its users
    evaluation: InputArtifact[ModelEvaluation],
    predictions: InputArtifact[InferenceResult],
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    baseline_model: InputArtifact[Model] = None,
    bounds: Parameter[str] = "{}",
    code: Parameter[str] = "",
) -> None:
    """Judges a model by what the Evaluator measured. A model that is refused is a result: the run goes on.

    Args:
        evaluation: the Evaluator's output.
        predictions: what it was made from, image by image.
        model: the candidate.
        blessing: gets the properties and the marker file of TFX's Evaluator, and `gate.json`: a `Verdict`.
        baseline_model: the last blessed model, if there is one.
        bounds: a `GateBounds` as JSON.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        InputError: a bound is set on a metric that cannot be judged, or nothing was measured.
    """
    del code
    candidate, baseline = read_evaluation(evaluation.uri)
    judged = verdict.judge(
        candidate,
        baseline,
        read_predictions(predictions.uri),
        read_scores(predictions.uri),
        from_json(bounds, GateBounds),
        predictions.get_string_custom_property(NOT_COMPARED) or None,
    )
    fileio.makedirs(blessing.uri)
    VERDICT.write(blessing.uri, judged)
    marker = blessings.BLESSED_FILE if judged.blessed else blessings.NOT_BLESSED_FILE
    with fileio.open(f"{blessing.uri}/{marker}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(blessings.BLESSED, int(judged.blessed))
    blessing.set_string_custom_property(blessings.CURRENT_MODEL, model.uri)
    blessing.set_int_custom_property(blessings.CURRENT_MODEL_ID, model.id)
    if baseline_model is not None:
        blessing.set_string_custom_property(blessings.BASELINE_MODEL, baseline_model.uri)
        blessing.set_int_custom_property(blessings.BASELINE_MODEL_ID, baseline_model.id)
    refused = "refused: " + "; ".join(f.message for f in judged.failures)
    progress.report(1, 1, "models", "blessed" if judged.blessed else refused)


def read_evaluation(directory: str) -> tuple[list[Measured], list[Measured] | None]:
    """Reads the metrics TFMA wrote, and derives from its confusion matrices what they imply.

    Args:
        directory: TFMA's output, local or of any file system TensorFlow reads.

    Returns:
        What was measured of the candidate, and of the baseline, None if there was none; the whole split and all slices.
    """
    import tensorflow_model_analysis as tfma  # 19 s, unless the Evaluator ran in this process

    counts = _confusions(tfma.load_plots(directory))
    candidate: list[Measured] = []
    baseline: list[Measured] = []
    for record in tfma.load_metrics(directory):
        values: dict[str, dict[str, float]] = {CANDIDATE: {}, BASELINE: {}}
        areas: dict[str, dict[int, float]] = {CANDIDATE: {}, BASELINE: {}}
        for item in record.metric_keys_and_values:
            model = item.key.model_name or CANDIDATE  # TFMA leaves the name out where there is only one model
            if not item.value.HasField("double_value") or item.key.is_diff:
                continue
            if item.key.name == AUC:
                areas[model][item.key.sub_key.class_id.value] = item.value.double_value.value
            else:
                values[model][item.key.name] = item.value.double_value.value
        parts = _parts(record.slice_key)
        examples = int(max(found.pop(_COUNT, 0) for found in values.values()))
        for model, measured in ((CANDIDATE, candidate), (BASELINE, baseline)):
            if values[model]:
                auc = [areas[model][number] for number in sorted(areas[model])]
                confusion = _matrix(counts.get((parts, model), {}), len(auc))
                metrics = {**values[model], **_averages(confusion, auc)}
                name = slices.title(parts) or OVERALL
                measured.append(Measured(parts, name, examples, metrics, auc, confusion))
    return candidate, baseline or None


def _confusions(plots: Any) -> dict[tuple[tuple[tuple[str, str], ...], str], dict[tuple[int, int], int]]:
    """Images by true and predicted class, for every slice and model."""
    found = {}
    for record in plots:
        for item in record.plot_keys_and_values:
            matrices = item.value.multi_class_confusion_matrix_at_thresholds.matrices
            if matrices:
                entries = {
                    (e.actual_class_id, e.predicted_class_id): round(e.num_weighted_examples)
                    for e in matrices[0].entries
                }
                found[_parts(record.slice_key), item.key.model_name or CANDIDATE] = entries
    return found


def _matrix(entries: dict[tuple[int, int], int], classes: int) -> np.ndarray:
    """int [k, k]; images whose class the model does not know are in none of its rows."""
    matrix = np.zeros((classes, classes), int)
    for (actual, predicted), count in entries.items():
        if actual >= 0 and predicted >= 0:
            matrix[actual, predicted] += count
    return matrix


def _averages(confusion: np.ndarray, auc: Sequence[float]) -> dict[str, float]:
    """Macro and weighted means over the classes that have images in the slice."""
    support = confusion.sum(axis=1)
    present = support > 0
    if not present.any():
        return {}
    by_class = dict(zip(AVERAGES, averages(confusion.diagonal(), confusion.sum(axis=0), support), strict=True))
    by_class[AUC] = np.asarray(auc)
    return {
        f"{kind}_{name}": float(np.average(values[present], weights=weights[present]))
        for name, values in by_class.items()
        for kind, weights in (("macro", present.astype(float)), ("weighted", support))
    }


def _parts(key: Any) -> tuple[tuple[str, str], ...]:
    """A TFMA SliceKey in the words of the settings."""
    parts = []
    for single in key.single_slice_keys:
        value = getattr(single, single.WhichOneof("kind"))
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else f"{value:g}"
        parts.append((slices.name_of(single.column), text))
    return tuple(parts)
