"""A SavedModel loaded the way TensorFlow Serving loads it: one session, restored and initialized.

`tf.saved_model.load` would rebuild functions in Python instead; the v1 loader runs the same steps as the C++ server
(import the graph, restore the variables, run the init op), so what fails here fails there. Only the graph optimizer is
off: it costs seconds at each signature's first request, and makes InceptionV3 no faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from core import signatures
from trainer.export.warm_up import WARM_UP, read_warm_up

TOLERANCE = 1e-3
"""Between two probabilities that should be the same; kernels differ with the batch size."""


class ServedModel:
    """A loaded SavedModel, which several threads may use at the same time until it is closed."""

    def __init__(self, directory: str) -> None:
        """Loads the model in a directory, local or remote.

        Raises:
            OSError: there is no SavedModel with the tag `serve`, or it has lost files.
            tf.errors.OpError: its files are damaged or do not fit its graph.
        """
        self.directory = directory
        options = tf.compat.v1.ConfigProto()
        options.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session = tf.compat.v1.Session(graph=tf.Graph(), config=options)
        with self.session.graph.as_default():
            try:
                meta_graph = tf.compat.v1.saved_model.loader.load(self.session, [tf.saved_model.SERVING], directory)
            except (RuntimeError, ValueError) as error:  # the loader's words for: no such tag, no variables.index
                raise OSError(str(error)) from error
        self.signatures = dict(meta_graph.signature_def)

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the session."""
        self.session.close()

    def warm_up(self) -> None:
        """Runs the model's warm-up requests (`trainer.export.warm_up`) of the kinds that are served here.

        Raises:
            OSError: the model fails to answer one, or they cannot be read. Other programs' exports may contain
                anything.
        """
        try:
            for log in read_warm_up(self.directory):
                kind = log.WhichOneof("log_type")
                if kind == "predict_log":
                    request = log.predict_log.request
                    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
                    self.run(signature_name(request.model_spec), inputs)
                elif kind == "classify_log":
                    request = log.classify_log.request
                    examples = [example.SerializeToString() for example in request.input.example_list.examples]
                    self.request(signature_name(request.model_spec), examples)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise OSError(f"its requests to warm up with, {WARM_UP}, failed: {reason}") from error

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Iterable[str] = (),
        timeout_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature on its inputs, by name, for the named outputs, or all; canceled after the timeout.

        Raises:
            tf.errors.OpError: the model refused the request or failed; `DeadlineExceededError` if it took too long.
            ValueError: an input does not have the shape that the signature takes.
        """
        definition = self.signatures[signature]
        fetches = {name: definition.outputs[name].name for name in list(outputs) or definition.outputs}
        feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
        options = timeout_seconds and tf.compat.v1.RunOptions(timeout_in_ms=max(1, round(timeout_seconds * 1000)))
        return self.session.run(fetches, feeds, options=options)

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Runs a signature with a single string input on any number of strings; see `run`."""
        (name,) = self.signatures[signature].inputs
        return self.run(signature, {name: np.array(list(values), dtype=object)})


def signature_name(spec: Any) -> str:
    """The signature that a request's `ModelSpec` asks for."""
    return spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def errors_of(response: Mapping[str, np.ndarray]) -> list[str]:
    """Why each image of a request got no prediction; "" if it got one."""
    return [error.decode() for error in response[signatures.ERROR]]


def first_line(error: Exception) -> str:
    """The line of TensorFlow's message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Graph execution error", "Detected at node", "File ", "Node:")
    return next((line for line in lines if line and not line.startswith(noise)), "")[:300]
