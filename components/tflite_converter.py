"""TFLiteConverter: adds TensorFlow Lite files to a copy of the trained model.

TFX would convert in the Trainer, so that adding a format would train the model again. Here the model is copied, and
later stages judge, serve and push the copy, whose checksums cover all files.
"""

import heapq

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import io_utils

from core import atomic_io, checksums, progress, tfrecords
from core import examples as features
from core.artifacts import exported_model, tflite_archive, tflite_files
from core.artifacts.base import split_dir
from core.artifacts.model_limits import model_limits
from core.artifacts.tflite_files import TFLITE_FILES, TFLiteFile, TFLiteFiles
from core.errors import MachineError
from core.settings.converter import from_json
from core.settings.export import ExportFormat

_CALIBRATION = 100  # training images; TensorFlow's guide to post-training quantization takes some hundred


@component
def TFLiteConverter(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    converted: OutputArtifact[Model],
    formats: Parameter[str],
    code: Parameter[str] = "",
) -> None:
    """Copies the model, and converts it.

    Args:
        examples: raw examples; some of the training images calibrate the integers.
        converted: the model with the files described in `core.artifacts.tflite_files`.
        formats: those in the setting `export`, as JSON.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        MachineError: the model is damaged.
    """
    del code
    from components.serving.tflite_model import latency_ms  # TensorFlow, which wiring does not need
    from trainer.export.tflite import Converter

    source, target = (exported_model.serving_dir(one.uri) for one in (model, converted))
    wanted = from_json(formats, tuple[ExportFormat, ...])
    if problem := checksums.problem(source):
        raise MachineError(f"the model in {source} is damaged: {problem}; run again, and it is trained again")
    io_utils.copy_dir(source, target)
    converter = Converter(source, _training_images(examples) if "tflite-int8" in wanted else [])
    classes, limits = exported_model.class_names(source), model_limits(source)
    files = []
    for number, one in enumerate(wanted):
        progress.report(number, len(wanted), "formats", one)
        made = converter.convert(one)
        content = tflite_archive.with_archive(made, classes, converter.image_size, limits)
        name, latency = tflite_files.file_name(one), latency_ms(made, converter.image_size)
        atomic_io.write_bytes(f"{target}/{name}", content)
        calibrated_on = converter.calibrated_on if one == "tflite-int8" else 0
        files.append(TFLiteFile(one, name, len(content), round(latency, 2), calibrated_on))
    TFLITE_FILES.write(target, TFLiteFiles(tuple(files)))
    checksums.write_checksums(target)
    said = ", ".join(f"{one.file} {one.bytes / 2**20:.1f} MB" for one in files)
    progress.report(len(wanted), len(wanted), "formats", said)


def _training_images(examples: Examples) -> list[bytes]:
    """The images with the lowest SHA-256: a random sample of all classes that does not depend on the records' order."""
    records = tfrecords.read(f"{split_dir(examples.uri, 'train')}/*")
    found = (tfrecords.values(record) for record in records)
    least = heapq.nsmallest(_CALIBRATION, found, key=lambda values: values.get(features.SHA256, b""))
    return [values[features.IMAGE] for values in least]
