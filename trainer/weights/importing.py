"""Writes the pre-trained weights, from any source, as the backbone directory that every stage reads."""

from __future__ import annotations

from core import atomic_io
from core.artifacts import backbone as artifact
from core.settings.backbone import BackboneConfig
from trainer.network.backbone import SCOPE
from trainer.training import checkpoints
from trainer.weights import sources


def import_weights(config: BackboneConfig, directory: str) -> artifact.BackboneRecord:
    """Writes the backbone directory, local or remote, atomically. Raises what `sources.load` raises."""
    arrays, source, sha256 = sources.load(config)
    record = artifact.BackboneRecord(config.weights, source, source == "random", sha256, config.image_size)
    with atomic_io.staging_directory(directory) as unfinished:
        named = {f"{SCOPE}/{name}": value for name, value in arrays.items()}
        checkpoints.write(artifact.checkpoint(unfinished), named)
        artifact.RECORD.write(unfinished, record)
        atomic_io.publish(unfinished, directory)
    return record
