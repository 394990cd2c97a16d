"""The exported network as TensorFlow Lite models, by TensorFlow's own converter: pixels in, probabilities out.

`tflite-float16` stores the weights in half precision and computes in float32. `tflite-int8` computes the base in 8-bit
integers (Jacob et al. 2018), with ranges calibrated on training images, and the head in float32, which costs little and
avoids probabilities in steps of 1/256.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from core import signatures
from core.settings.export import ExportFormat

_BATCH = 16  # images decoded at a time
_HEAD = ("SUB", "MUL", "FULLY_CONNECTED", "ADD", "SOFTMAX")
"""TensorFlow Lite's operators in the head; the base, with its BatchNorms folded, has none of them."""


class Converter:
    """Converts one SavedModel."""

    def __init__(self, directory: str, images: Sequence[bytes]) -> None:
        """Loads the model; `images` are training images, for `tflite-int8`.

        Raises:
            KeyError: the model was exported without the signature `pixels`.
        """
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], directory)
            signature = loaded.signature_def[signatures.PIXELS]
            pixels, scores = signature.inputs[signatures.PIXELS].name, signature.outputs["probabilities"].name
            shape = graph.get_tensor_by_name(pixels).shape
            self._frozen = _frozen(session, pixels, scores)
            of_images = loaded.signature_def[signatures.MAPS]
            self._calibration = list(_pixels(session, of_images, images))
        self._pixels, self._scores, self._shape = pixels, scores, [1, *shape[1:]]

    @property
    def image_size(self) -> int:
        """S, the side of the images."""
        return int(self._shape[1])

    @property
    def calibrated_on(self) -> int:
        """How many of the images could be read."""
        return len(self._calibration)

    def convert(self, export_format: ExportFormat) -> bytes:
        """A model that takes `pixels`, float32 [1, S, S, 3], and returns `probabilities`, float32 [1, k]."""
        converter = self._converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if export_format == "tflite-float16":
            converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
        converter.representative_dataset = lambda: ([image[None]] for image in self._calibration)
        # TensorFlow's guide to selective quantization uses the debugger to keep operators in float32.
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_HEAD))
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
        )
        return debugger.get_nondebug_quantized_model()

    def _converter(self) -> Any:
        """TensorFlow 1's converter, which takes a graph; the one for functions needs three times the memory, 5 GB."""
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            pixels = tf.compat.v1.placeholder(tf.float32, self._shape, signatures.PIXELS)
            (scores,) = tf.graph_util.import_graph_def(self._frozen, {self._pixels: pixels}, [self._scores])
            outputs = [tf.identity(scores, "probabilities")]
            return tf.compat.v1.lite.TFLiteConverter.from_session(session, [pixels], outputs)


def _frozen(session: tf.compat.v1.Session, pixels: str, scores: str) -> Any:
    """The part of a loaded graph from the pixels to the scores, as a GraphDef with variables as constants."""
    graph = session.graph.as_graph_def()
    graph.ClearField("library")  # only decoding uses it
    entrance, end = (name.rpartition(":")[0] for name in (pixels, scores))
    for node in graph.node:
        if node.name == entrance:  # drops everything that computes it
            node.Clear()
            node.name, node.op = entrance, "Placeholder"
            node.attr["dtype"].type = tf.float32.as_datatype_enum
    cut = tf.compat.v1.graph_util.extract_sub_graph(graph, [end])
    return tf.compat.v1.graph_util.convert_variables_to_constants(session, cut, [end])


def _pixels(session: tf.compat.v1.Session, signature: Any, images: Sequence[bytes]) -> Iterator[np.ndarray]:
    """The network's input for each readable image, float32 [S, S, 3]."""
    fetches = [signature.outputs[name].name for name in (signatures.PIXELS, signatures.ERROR)]
    (receiver,) = signature.inputs.values()
    for start in range(0, len(images), _BATCH):
        batch = np.array(images[start : start + _BATCH], dtype=object)
        pixels, errors = session.run(fetches, {receiver.name: batch})
        yield from (one for one, error in zip(pixels, errors, strict=True) if not error)
