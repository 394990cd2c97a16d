"""Warm start: the last blessed model beside the pre-trained weights, for the Trainer to begin with.

The Trainer's `base_model` is one artifact, so both are packed into one (tensorflow/tfx#3423 asks for more).
"""

import hashlib
import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import Artifact
from tfx.types.standard_artifacts import Examples, Model, TransformGraph
from tfx.utils import io_utils, path_utils

from components.baseline import blessed_models
from core import progress
from core.artifacts import exported_model
from core.artifacts.backbone import PACKED, PackedModel, packed_checkpoint, packed_classes

_KEY = "training_key"
_MODEL_ID = "warm_start_model_id"


class LastBlessedStrategy(ResolverStrategy):
    """Resolves `model` to the last blessed model; for a training that was done before, to the one it began with.

    TFX's LatestBlessedModelStrategy would hand a run that is repeated unchanged the model it has made itself, and the
    Trainer would never be cached (`BaselineStrategy` has the same trouble). A training is known by its inputs and
    settings, which `WarmStart` leaves on what it packs.
    Channels: `examples`, `transform_graph`, `backbone` (those of the training), `model` and `model_blessing` (all).
    """

    def __init__(self, training: str) -> None:
        """`training` is WarmStart's parameter of that name."""
        self._training = training

    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        """Returns the same channels, `model` with one artifact or none."""
        del store
        inputs = (input_dict[name][0] for name in ("examples", "transform_graph", "backbone"))
        key = training_key(self._training, *inputs)
        models = {artifact.id: artifact for artifact in input_dict["model"]}
        before = [
            a for a in models.values() if a.has_custom_property(_KEY) and a.get_string_custom_property(_KEY) == key
        ]
        if before:
            chosen = max(before, key=lambda a: a.id).get_int_custom_property(_MODEL_ID)
        else:
            blessings = blessed_models(input_dict)
            chosen = max(blessings, key=lambda model: blessings[model].id, default=0)
        there = chosen in models and all(fileio.exists(name) for name in _needed(models[chosen]))
        return {**input_dict, "model": [models[chosen]] if there else []}


def training_key(training: str, examples: Artifact, transform_graph: Artifact, backbone: Artifact) -> str:
    """Stands for a training: what it reads and all its settings."""
    ids = [artifact.id for artifact in (examples, transform_graph, backbone)]
    return hashlib.sha256(json.dumps([training, ids]).encode()).hexdigest()


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
    """Copies the pre-trained weights, and beside them what a warm start needs of a model.

    Args:
        examples: what the Trainer is to read.
        transform_graph: likewise.
        backbone: of BackboneImporter.
        base: gets a backbone directory with an earlier model packed in it, if there is one.
        model: to start from; none leaves the pre-trained weights alone.
        training: stands for all settings of the training.
        code: hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    target = path_utils.serving_model_dir(base.uri)
    io_utils.copy_dir(path_utils.serving_model_dir(backbone.uri), target)
    if model is not None:
        source = path_utils.serving_model_dir(model.uri)
        fileio.makedirs(PACKED.path(target).rpartition("/")[0])
        variables = exported_model.checkpoint(source)
        for file in map(str, fileio.glob(f"{variables}.*")):
            fileio.copy(file, packed_checkpoint(target) + file.removeprefix(variables))
        fileio.copy(exported_model.classes_path(source), packed_classes(target))
        PACKED.write(target, PackedModel(model.uri, model.id))
    base.set_string_custom_property(_KEY, training_key(training, examples, transform_graph, backbone))
    base.set_int_custom_property(_MODEL_ID, model.id if model is not None else 0)
    progress.report(1, 1, "networks", "from the last blessed model" if model is not None else "no blessed model yet")


def _needed(model: Artifact) -> tuple[str, str]:
    """What must be there for a model to be started from; whether it is whole is seen when it is read."""
    directory = path_utils.serving_model_dir(model.uri)
    return f"{exported_model.checkpoint(directory)}.index", exported_model.classes_path(directory)
