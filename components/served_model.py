"""A SavedModel loaded the way TensorFlow Serving loads it: one session, restored and initialised.

`tf.saved_model.load` would rebuild functions in Python instead; the v1 loader runs the same steps as the C++ server
(import the graph, restore the variables, run the init op), so what fails here fails there.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
import tensorflow as tf

EXAMPLES_SIGNATURE = "serving_default"
"""Takes serialised tf.Examples, of which only `image/encoded` is needed."""

IMAGES_SIGNATURE = "serving_images"
"""Takes encoded image files."""

LABELS_SIGNATURE = "transform_features"
"""Takes serialised tf.Examples and gives the label as the model counts it; TFMA needs it."""

CLASSES_ASSET = "classes.txt"

IMAGE_FEATURE = "image/encoded"


class ServedModel:
    """A loaded SavedModel that answers requests until it is closed."""

    def __init__(self, directory: str) -> None:
        """Loads the model.

        Args:
            directory: holds `saved_model.pb`; any path TensorFlow's file system reads.

        Raises:
            OSError: there is no SavedModel with the tag `serve`, or it has lost files.
            tf.errors.OpError: its files are damaged or do not fit its graph.
        """
        self.directory = directory
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            try:
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [tf.saved_model.SERVING], directory)
            except (RuntimeError, ValueError) as error:  # the loader's words for: no such tag, no variables.index
                raise OSError(str(error)) from error
        self.signatures = dict(meta_graph.signature_def)

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the session; the model answers no more."""
        self._session.close()

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Sends one request.

        Args:
            signature: name of a signature with a single string input of shape [n].
            values: n strings, n may be 0.

        Returns:
            The signature's outputs by name.

        Raises:
            tf.errors.OpError: the model refused the request or failed.
        """
        definition = self.signatures[signature]
        (feed,) = (tensor.name for tensor in definition.inputs.values())
        fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
        return self._session.run(fetches, {feed: np.array(list(values), dtype=object)})

    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the columns of `probabilities`; read from the model's assets.

        Raises:
            tf.errors.OpError: the asset is missing or cannot be read.
        """
        with tf.io.gfile.GFile(f"{self.directory}/assets/{CLASSES_ASSET}", "r") as file:
            return file.read().removesuffix("\n").split("\n")


def example_of(image: bytes) -> bytes:
    """A serialised tf.Example with nothing but the encoded image, as an unlabelled request has it."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature={IMAGE_FEATURE: feature})).SerializeToString()


def first_line(error: Exception) -> str:
    """The line of TensorFlow's message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Graph execution error", "Detected at node", "File ", "Node:")
    return next((line for line in lines if line and not line.startswith(noise)), "")[:300]
