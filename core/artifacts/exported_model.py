"""The exported model: where the Trainer's artifact holds it, and the files in it that others read."""

from __future__ import annotations

from core.artifacts.base import Artifact, JsonFile
from core.image_limits import DEFAULT_LIMITS, ImageLimits

MODEL = Artifact("Trainer", "model")

CLASSES_ASSET = "classes.txt"
"""Asset: the class names, one a line, in the order of the columns of `probabilities`."""

_IMAGE_LIMITS = JsonFile("assets.extra/image_limits.json", ImageLimits)


def serving_dir(uri: str) -> str:
    """The SavedModel's directory under the URI of a Model artifact, as TFX lays it out."""
    return f"{uri.rstrip('/')}/Format-Serving"


def checkpoint(directory: str) -> str:
    """The prefix of the checkpoint in a SavedModel's directory."""
    return f"{directory.rstrip('/')}/variables/variables"


def classes_path(directory: str) -> str:
    """The path of the class names in a SavedModel's directory."""
    return f"{directory.rstrip('/')}/assets/{CLASSES_ASSET}"


def class_names(directory: str) -> list[str]:
    """The class names in a SavedModel's directory. Raises tf.errors.OpError if they cannot be read."""
    import tensorflow as tf

    with tf.io.gfile.GFile(classes_path(directory)) as file:
        return file.read().removesuffix("\n").split("\n")


def write_image_limits(directory: str, limits: ImageLimits) -> None:
    """Puts the limits of an image beside a SavedModel."""
    import tensorflow as tf

    tf.io.gfile.makedirs(f"{directory}/assets.extra")
    _IMAGE_LIMITS.write(directory, limits)


def read_image_limits(directory: str) -> ImageLimits:
    """The limits beside a SavedModel; the defaults where there are none."""
    import tensorflow as tf

    return _IMAGE_LIMITS.read(directory) if tf.io.gfile.exists(_IMAGE_LIMITS.path(directory)) else DEFAULT_LIMITS
