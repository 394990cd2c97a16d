"""Loads the SavedModel for MLflow, with strings instead of bytes; this file is copied into every MLflow model.

It imports nothing from this project, and runs in the environment of the model's own `requirements.txt`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_SIGNATURE = "serving_images"


class _Classifier:
    def __init__(self, directory: str) -> None:
        self._model = tf.saved_model.load(directory)  # kept, since its functions hold its variables weakly
        self._classify = self._model.signatures[_SIGNATURE]

    def predict(self, table: Any, params: dict[str, Any] | None = None) -> Any:
        """For each image file in the column `images`, its label and probabilities, or why it cannot be read."""
        import pandas as pd  # MLflow brings it

        found = self._classify(images=tf.constant(list(table["images"]), tf.string))
        return pd.DataFrame({name: _plain(values.numpy().tolist()) for name, values in found.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _load_pyfunc(directory: str) -> _Classifier:
    """Called by MLflow to load the model."""
    return _Classifier(directory)
