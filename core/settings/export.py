"""The setting `export`: what the trained network is converted to, beside the SavedModel."""

from __future__ import annotations

from typing import Literal, get_args

ExportFormat = Literal["tflite-float16", "tflite-int8"]

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
