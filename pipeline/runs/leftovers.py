"""What killed runs leave in a pipeline's folder: the next run, which holds the folder's lock, deletes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.training_summary import MODEL_RUN
from pipeline.runs.pruning import delete
from pipeline.runs.run_dir import ARTIFACTS
from trainer.training import resume

_WORKING = ".system"  # TFX's folder of a node's working files; nobody needs them later
_FINISHED = (pb.Execution.COMPLETE, pb.Execution.CACHED)


def clear(store: MetadataStore, folder: Path) -> int:
    """Deletes them, except for a training that can be resumed; returns how many bytes they had."""
    return sum(map(delete, _find(store, folder)))


def _find(store: MetadataStore, folder: Path) -> Iterator[Path]:
    artifacts = folder / ARTIFACTS
    yield from artifacts.glob(f"*/{_WORKING}")
    trainings = artifacts / MODEL_RUN.node / MODEL_RUN.output
    yield from map(Path, resume.superfluous(str(trainings)))
    unfinished = [one.id for one in store.get_executions() if one.last_known_state not in _FINISHED]
    for execution in unfinished:
        yield from (found for found in artifacts.glob(f"*/*/{execution}") if found.parent != trainings)
