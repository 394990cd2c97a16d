"""The exported model: where it lies in the Trainer's artifact, and its files that other modules read."""

from __future__ import annotations

from core import atomic_io
from core.artifacts.base import Artifact

MODEL = Artifact("Trainer", "model")

CLASSES_ASSET = "classes.txt"
"""Asset: the class names, one per line, in the order of the columns of `probabilities`."""


def serving_dir(uri: str) -> str:
    """The SavedModel's directory under the URI of a Model artifact, as TFX lays it out."""
    return f"{uri.rstrip('/')}/Format-Serving"


def checkpoint(directory: str) -> str:
    """The prefix of the checkpoint in a SavedModel's directory, with every BatchNorm folded."""
    return f"{directory.rstrip('/')}/variables/variables"


def batch_norms(directory: str) -> str:
    """The prefix of the checkpoint that keeps the BatchNorms which the SavedModel's variables have folded in."""
    return f"{directory.rstrip('/')}/assets.extra/batch_norms"


def classes_path(directory: str) -> str:
    """The path of the class names in a SavedModel's directory."""
    return f"{directory.rstrip('/')}/assets/{CLASSES_ASSET}"


def class_names(directory: str) -> list[str]:
    """The class names in a SavedModel's directory; raises what `atomic_io.open_file` raises."""
    return atomic_io.read_text(classes_path(directory)).removesuffix("\n").split("\n")
