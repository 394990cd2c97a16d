"""The pre-trained network: a checkpoint, `backbone.json`, and for a warm start what an earlier model had learned."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile

BACKBONE = Artifact("BackboneImporter", "backbone")


@dataclasses.dataclass(frozen=True)
class BackboneRecord:
    """What a backbone directory holds.

    Attributes:
        weights: the setting: `imagenet`, `random`, a path or a TF-Hub handle.
        source: what was really used: `imagenet`, `random`, a handle, or the name of a file or folder.
        sha256: hex; of the weights' file or files, or of the tensors where they are random.
        image_size: side of the images, in pixels.
    """

    weights: str
    source: str
    random: bool
    sha256: str
    image_size: int


RECORD = JsonFile("backbone.json", BackboneRecord)
"""Lies in the backbone directory: `exported_model.serving_dir` of the artifact."""


@dataclasses.dataclass(frozen=True)
class PackedModel:
    """Which model is packed for a warm start: its artifact's URI and id."""

    uri: str
    id: int


PACKED = JsonFile("warm_start/origin.json", PackedModel)  # lies there too, where a model is packed


def checkpoint(directory: str) -> str:
    """The prefix of the pre-trained weights' checkpoint in a backbone directory."""
    return f"{directory.rstrip('/')}/backbone.ckpt"


def packed_model(directory: str) -> str:
    """The directory of the packed model's variables, BatchNorms and class names, laid out as in `exported_model`."""
    return f"{directory.rstrip('/')}/warm_start"
