"""The TensorFlow Lite files beside a SavedModel; `core.artifacts.tflite_archive` says what is in one."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile
from core.settings.export import ExportFormat

MODEL = Artifact("TFLiteConverter", "converted")
"""The trained model with its TensorFlow Lite files; no run has it without the setting `export`."""

SUFFIX = ".tflite"


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """One file, by its path in the SavedModel's folder.

    Attributes:
        bytes: of the file.
        latency_ms: median time of one image on one core of the machine that converted it, in milliseconds: CPU time, so
            that what runs beside it does not count.
        calibrated_on: training images that the ranges of the integers were taken from.
    """

    format: ExportFormat
    file: str
    bytes: int
    latency_ms: float
    calibrated_on: int = 0


@dataclasses.dataclass(frozen=True)
class TFLiteFiles:
    """All of a model."""

    files: tuple[TFLiteFile, ...]


TFLITE_FILES = JsonFile("assets.extra/tflite.json", TFLiteFiles)


def file_name(export_format: ExportFormat) -> str:
    """`tflite-int8` is `int8.tflite` in the SavedModel's folder."""
    return export_format.removeprefix("tflite-") + SUFFIX


def described(directory: str) -> tuple[TFLiteFile, ...]:
    """A SavedModel's TensorFlow Lite files, local or remote; none where it was not converted."""
    found = TFLITE_FILES.read_if_any(directory)
    return found.files if found else ()


def find(directory: str) -> dict[ExportFormat, str]:
    """Their paths, by format."""
    return {one.format: f"{directory}/{one.file}" for one in described(directory)}
