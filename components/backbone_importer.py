"""BackboneImporter: brings the pre-trained network into the pipeline, as a Model artifact cached by content."""

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model

from core import progress
from core.artifacts.exported_model import serving_dir
from core.settings import converter
from core.settings.backbone import BackboneConfig


@component
def BackboneImporter(  # noqa: N802 - a component is a class to its users
    backbone: OutputArtifact[Model],
    settings: Parameter[str],
    fingerprint: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Writes InceptionV3's weights as a name-based checkpoint where TFX looks for a model.

    Args:
        backbone: see `core.artifacts.backbone`; its properties say what was actually imported.
        settings: a BackboneConfig as JSON; `output` is the last block that any stage of the run needs.
        fingerprint: `trainer.weights.sources.fingerprint`, for TFX's cache.
        code: hash of the source, for TFX's cache.
    """
    del fingerprint, code
    from trainer.weights.importing import import_weights  # imports Keras, which wiring does not need

    config = converter.from_json(settings, BackboneConfig)
    progress.report(0, 1, "networks", f"weights: {config.weights}")
    record = import_weights(config, serving_dir(backbone.uri))
    backbone.set_string_custom_property("source", record.source)
    backbone.set_string_custom_property("sha256", record.sha256)
    backbone.set_int_custom_property("random", int(record.random))
    progress.report(1, 1, "networks", f"weights: {record.source}")
