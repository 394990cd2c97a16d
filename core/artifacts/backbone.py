"""The pre-trained network: a checkpoint, `backbone.json` and, for a warm start, the variables of an earlier model."""

from __future__ import annotations

import dataclasses

from core.artifacts.base import Artifact, JsonFile

BACKBONE = Artifact("BackboneImporter", "backbone")


@dataclasses.dataclass(frozen=True)
class BackboneRecord:
    """What a backbone directory holds.

    Attributes:
        weights: the setting: `imagenet`, `random`, a path or a TF-Hub handle.
        source: what was actually used: `imagenet`, `random`, a handle, or the name of a file or folder.
        sha256: hexadecimal digest of the weights' files, or of the tensors if they are random.
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
    """The model packed for a warm start: URI and id of its artifact."""

    uri: str
    id: int


PACKED = JsonFile("warm_start/origin.json", PackedModel)  # in the same directory, if a model is packed


def checkpoint(directory: str) -> str:
    """The prefix of the pre-trained weights' checkpoint in a backbone directory."""
    return f"{directory.rstrip('/')}/backbone.ckpt"


def packed_model(directory: str) -> str:
    """The directory with the packed model's variables, BatchNorms and class names, laid out as in `exported_model`."""
    return f"{directory.rstrip('/')}/warm_start"
