"""Classes of image files on this machine: a record per file, in a fixed order, whatever is wrong with some."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.ingestion.image_folder import METADATA_NAMES, printable, read_local
from core import image_limits, progress
from core.errors import InputError
from core.image_limits import ImageLimits
from pipeline.inference.classifier import BATCH_SIZE, Classifier, ImageFile, batches, find_model, read


def predict(
    model_dir: str | Path, paths: Sequence[str | Path], top_k: int = 3, batch_size: int = BATCH_SIZE
) -> Iterator[dict[str, Any]]:
    """Classifies image files; loads the model once and holds one batch at a time.

    Args:
        model_dir: a SavedModel's folder, or a push directory, whose latest version is taken.
        paths: image files in the order wanted, and folders, of which every file below is taken, sorted by path
            (hidden ones and metadata.csv are not).
        top_k: how many classes to list, at most as many as there are.
        batch_size: images sent to the model at a time.

    Yields:
        See `Classifier.classify`.

    Raises:
        InputError: there is no model that answers images, or `top_k` or `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    directory = find_model(str(model_dir))
    reading = functools.partial(_read, limits=image_limits.read(directory))
    with Classifier(directory, top_k) as classifier:
        files = list(expand(Path(path) for path in paths))
        done = 0
        for batch in batches(map(reading, files), batch_size):
            yield from classifier.classify(batch)
            done += len(batch)
            progress.report(done, len(files), "images")


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """Folders as the files in and below them, sorted by path; all else as it is."""
    for path in paths:
        if path.is_dir():
            inside = sorted(entry.relative_to(path) for entry in path.rglob("*") if not entry.is_dir())
            yield from (path / entry for entry in inside if is_wanted(entry.parts))
        else:
            yield path


def is_wanted(parts: Sequence[str]) -> bool:
    """Whether a file of a folder, given by its path in it, is to be classified: not if hidden or metadata.csv."""
    return parts[-1] not in METADATA_NAMES and not any(part.startswith(".") for part in parts)


def _read(file: Path, limits: ImageLimits) -> ImageFile:
    return read(printable(str(file)), lambda: read_local(file, limits), limits)
