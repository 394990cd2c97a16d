"""The TensorFlow Lite files beside a SavedModel; `core.artifacts.tflite_archive` says what is in one."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.settings.export import ExportFormat

MODEL = Artifact("TFLiteConverter", "converted")
"""The trained model with its TensorFlow Lite files; exists only with the setting `export`."""

SUFFIX = ".tflite"


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """One TensorFlow Lite file; `file` is relative to the SavedModel's folder.

    Attributes:
        bytes: size of the file.
        latency_ms: median time for one image on one core of the machine that converted it, in milliseconds of CPU time,
            so that other work on the machine does not count.
        calibrated_on: number of training images used to calibrate the integer ranges.
    """

    format: ExportFormat
    file: str
    bytes: int
    latency_ms: float
    calibrated_on: int = 0


@dataclasses.dataclass(frozen=True)
class TFLiteFiles:
    """All TensorFlow Lite files of a model."""

    files: tuple[TFLiteFile, ...]


TFLITE_FILES = JsonFile("assets.extra/tflite.json", TFLiteFiles)


def file_name(export_format: ExportFormat) -> str:
    """The file of a format in the SavedModel's folder: `int8.tflite` for `tflite-int8`."""
    return export_format.removeprefix("tflite-") + SUFFIX


def described(directory: str) -> tuple[TFLiteFile, ...]:
    """A SavedModel's TensorFlow Lite files, local or remote; none if it was not converted."""
    found = TFLITE_FILES.read_if_any(directory)
    return found.files if found else ()


def find(directory: str) -> dict[ExportFormat, str]:
    """Paths of a SavedModel's TensorFlow Lite files, by format."""
    return {one.format: f"{directory}/{one.file}" for one in described(directory)}
