"""BackboneImporter: puts the pre-trained network into the pipeline, as a Model artifact that is cached by content."""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

from core import progress
from core.settings.backbone import BackboneConfig


@component
def BackboneImporter(  # noqa: N802 - a component is a class to its users
    backbone: OutputArtifact[Model],
    weights: Parameter[str],
    if_unreachable: Parameter[str],
    image_size: Parameter[int],
    output: Parameter[str] = "mixed10",
    fingerprint: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Writes InceptionV3's weights as a name-based checkpoint where TFX looks for a model.

    Args:
        backbone: `Format-Serving/` gets the checkpoint and `backbone.json`; its properties get what the latter says.
        weights: as in `core.settings.backbone.BackboneConfig`.
        if_unreachable: `error` or `random`.
        image_size: side of the images, in pixels.
        output: the last block that is needed: a model that was trained without the ones after it has no weights there.
        fingerprint: `trainer.weights.sources.fingerprint`, so that TFX's cache notices a changed file.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        InputError: the weights cannot be had or do not fit.
    """
    del fingerprint, code
    from trainer.network.backbone import import_weights  # brings TensorFlow's Keras, which no one needs who only wires

    progress.report(0, 1, "networks", f"weights: {weights}")
    config = BackboneConfig(weights, if_unreachable, image_size, output)  # type: ignore[arg-type]
    record = import_weights(config, path_utils.serving_model_dir(backbone.uri))
    backbone.set_string_custom_property("source", record.source)
    backbone.set_string_custom_property("sha256", record.sha256)
    backbone.set_int_custom_property("random", int(record.random))
    progress.report(1, 1, "networks", f"weights: {record.source}")
