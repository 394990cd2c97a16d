"""Classes of image files on this machine: a record per file, in a fixed order, whatever is wrong with some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.ingestion.image_folder import METADATA_NAMES
from core import progress
from core.artifacts.exported_model import read_image_limits
from pipeline.inference.classifier import BATCH_SIZE, batches, check_positive, classify, find_model, load, read


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
        See `classify`.

    Raises:
        InputError: there is no model that takes images, or `top_k` or `batch_size` is less than 1.
    """
    check_positive(top_k=top_k, batch_size=batch_size)
    directory = find_model(str(model_dir))
    limits = read_image_limits(directory)
    with load(directory) as model:
        files = list(expand(Path(path) for path in paths))
        done = 0
        for batch in batches((read(str(file), limits) for file in files), batch_size):
            yield from classify(model, batch, top_k)
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
