"""Data folders, listed as these settings of `data` say."""

from collections.abc import Sequence
from typing import Any

from components.ingestion import image_layout, spans
from components.ingestion.layouts.listing import Listing
from core.settings.data import DataSettings, IngestionConfig, Layout


def config(layout: Layout = "auto", **settings: Any) -> IngestionConfig:
    return DataSettings("photos", layout, **settings).ingestion({})


def read_layout(folder: str, layout: Layout = "auto", **settings: Any) -> Listing:
    return image_layout.read_layout(folder, config(layout, **settings))


def read_spans(base: str, folders: Sequence[str], **settings: Any) -> Listing:
    return spans.read_spans(base, folders, config(**settings))
