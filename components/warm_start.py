"""Warm start: the last blessed model beside the pre-trained weights, for the Trainer to begin with.

The Trainer's `base_model` is one artifact, so both are packed into one (tensorflow/tfx#3423 asks for more).
"""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import Artifact
from tfx.types.standard_artifacts import Examples, Model, TransformGraph
from tfx.utils import io_utils

from components.baseline import blessed_models
from core import progress
from core.artifacts import backbone as backbone_artifact
from core.artifacts import exported_model
from core.artifacts.executions import EXECUTION, execution_key, made_by

_MODEL_ID = "warm_start_model_id"


class LastBlessedStrategy(ResolverStrategy):
    """Resolves `model` to the last blessed model, or for a repeated training to the model it began with before.

    A training is identified by its inputs and settings, which `WarmStart` records on its output; see `executions`.
    Channels: `examples`, `transform_graph`, `backbone` (those of the training), `model` and `model_blessing` (all).
    """

    def __init__(self, training: str) -> None:
        """`training` is WarmStart's parameter of that name."""
        self._training = training

    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        """Returns the same channels, `model` with one artifact or none."""
        del store
        inputs = (input_dict[name][0] for name in ("examples", "transform_graph", "backbone"))
        key = execution_key([self._training], list(inputs))
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        if before := made_by(key, input_dict["model"]):
            chosen = max(before, key=lambda a: a.id).get_int_custom_property(_MODEL_ID)
        else:
            blessings = blessed_models(input_dict)
            left = [model for model in blessings if model in models]  # a damaged one is marked as deleted
            chosen = max(left, key=lambda model: blessings[model].id, default=0)
        present = chosen in models and all(fileio.exists(name) for name in _needed(models[chosen]))
        return {**input_dict, "model": [models[chosen]] if present else []}


@component
def WarmStart(  # noqa: N802 - a component is a class to its users
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    backbone: InputArtifact[Model],
    base: OutputArtifact[Model],
    model: InputArtifact[Model] = None,
    training: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Copies the pre-trained weights, and beside them what a warm start needs from a model.

    The other inputs are the Trainer's: with them and `training`, `LastBlessedStrategy` recognizes the training.

    Args:
        base: a backbone directory, with the packed model of `core.artifacts.backbone` if there is one.
        model: to start from; without it, only the pre-trained weights are copied.
        training: identifies all settings of the training.
        code: hash of the source, for TFX's cache.
    """
    del code
    target = exported_model.serving_dir(base.uri)
    io_utils.copy_dir(exported_model.serving_dir(backbone.uri), target)
    if model is not None:
        serving = exported_model.serving_dir(model.uri)
        packed = backbone_artifact.packed_model(target)
        checkpoints = exported_model.checkpoint(serving), exported_model.batch_norms(serving)
        learned = [str(file) for prefix in checkpoints for file in fileio.glob(f"{prefix}.*")]
        for file in (exported_model.classes_path(serving), *learned):
            copy = packed + file.removeprefix(serving)
            fileio.makedirs(copy.rpartition("/")[0])
            fileio.copy(file, copy)
        backbone_artifact.PACKED.write(target, backbone_artifact.PackedModel(model.uri, model.id))
    base.set_string_custom_property(EXECUTION, execution_key([training], [examples, transform_graph, backbone]))
    base.set_int_custom_property(_MODEL_ID, model.id if model is not None else 0)
    begins = "from the last blessed model" if model is not None else "no blessed model to start from"
    progress.report(1, 1, "networks", begins)


def _needed(model: Artifact) -> tuple[str, ...]:
    """The files that a warm start needs; whether they are intact shows when they are read."""
    serving = exported_model.serving_dir(model.uri)
    checkpoints = exported_model.checkpoint(serving), exported_model.batch_norms(serving)
    return (*(f"{prefix}.index" for prefix in checkpoints), exported_model.classes_path(serving))
