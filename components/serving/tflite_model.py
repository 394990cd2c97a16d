"""Runs a TensorFlow Lite file of an exported model on this machine, with the interface of a served model."""

from __future__ import annotations

import concurrent.futures
import os
import queue
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from core import signatures
from core.artifacts import tflite_archive
from trainer.images import decoding, tolerant_decoding

_RUNS = 20  # of which the latency is the median
_MOST_INTERPRETERS = 4  # each has the weights as it computes with them, some 90 MB

_Interpreter = Callable[[np.ndarray], np.ndarray]


class TFLiteModel:
    """A loaded file, which several threads may use at the same time until it is closed."""

    def __init__(self, path: str) -> None:
        """Verifies and loads a file, local or remote; raises what `core.artifacts.tflite_archive.read` raises."""
        content, self.classes, self.preprocessing = tflite_archive.read(path)
        # Each of one thread: those that TensorFlow Lite starts itself wait busily for each other, and where other
        # processes want the cores, an image takes twenty times as long.
        self._interpreters: queue.SimpleQueue[_Interpreter] = queue.SimpleQueue()
        count = min(os.cpu_count() or 1, _MOST_INTERPRETERS)
        for _ in range(count):
            self._interpreters.put(_interpreter(content))
        self._threads = concurrent.futures.ThreadPoolExecutor(count, "tflite")
        limits = self.preprocessing.limits

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            size = self.preprocessing.image_size
            return tolerant_decoding.decode(
                images, size, lambda file: decoding.decode(file, size, limits.transparent, limits.stretch), limits
            )

        self._decode = decode

    def __enter__(self) -> TFLiteModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its threads."""
        self._threads.shutdown()

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        """The outputs of the SavedModel's `serving_images` that `predict` reads.

        Raises:
            KeyError: another signature is requested.
        """
        if signature != signatures.IMAGES:
            raise KeyError(signature)
        pixels, errors = (found.numpy() for found in self._decode(tf.constant(list(values), tf.string)))
        probabilities = self.from_pixels(pixels)
        probabilities[errors != b""] = 0
        return {
            "probabilities": probabilities,
            "classes": np.tile(np.array([name.encode() for name in self.classes], object), (len(values), 1)),
            signatures.ERROR: errors,
        }

    def from_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Float32 [n, S, S, 3] to the probabilities of all classes, float32 [n, k]."""
        found = list(self._threads.map(self._answer, pixels))
        return np.stack(found) if found else np.empty((0, len(self.classes)), np.float32)

    def _answer(self, image: np.ndarray) -> np.ndarray:
        interpreter = self._interpreters.get()
        try:
            return interpreter(image[None])[0]
        finally:
            self._interpreters.put(interpreter)


def latency_ms(model: bytes, image_size: int) -> float:
    """The median CPU time for one image on one core, in milliseconds, for a model without the archive."""
    answer = _interpreter(model)
    pixels = np.zeros([1, image_size, image_size, 3], np.float32)
    answer(pixels)
    times = []
    for _ in range(_RUNS):
        start = time.thread_time()
        answer(pixels)
        times.append(1000 * (time.thread_time() - start))
    return statistics.median(times)


def _interpreter(model: bytes) -> _Interpreter:
    """Pixels, float32 [1, S, S, 3], to probabilities, float32 [1, k]; for one caller at a time."""
    loaded = tf.lite.Interpreter(model_content=model, num_threads=1)
    loaded.allocate_tensors()
    (taken,), (given,) = loaded.get_input_details(), loaded.get_output_details()

    def answer(pixels: np.ndarray) -> np.ndarray:
        loaded.set_tensor(taken["index"], pixels)
        loaded.invoke()
        return loaded.get_tensor(given["index"])

    return answer
