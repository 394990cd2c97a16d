"""A model behind a server that speaks TensorFlow Serving's gRPC API, asked as if it were in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class RemoteModel:
    """The latest version of a served model.

    gRPC's errors are raised as TensorFlow's of the same code, `tf.errors.OpError`.
    """

    def __init__(self, address: str, name: str, timeout_seconds: float = 60) -> None:
        """Asks for the model's signatures.

        Args:
            address: host:port.
            name: what the server calls the model.
            timeout_seconds: for every request.

        Raises:
            tf.errors.OpError: there is no server (`UnavailableError`) or no such model (`NotFoundError`).
        """
        self.name = name
        self._timeout = timeout_seconds
        self._channel = grpc.insecure_channel(
            address, [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel)
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        found = get_model_metadata_pb2.SignatureDefMap()
        self._call(self._predictions.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        self.signatures = dict(found.signature_def)

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Sends one Predict request; see `ServedModel.request`."""
        (name,) = self.signatures[signature].inputs
        request = predict_pb2.PredictRequest(model_spec=self._spec(signature))
        request.inputs[name].CopyFrom(tf.make_tensor_proto(list(values), tf.string, [len(values)]))
        response = self._call(self._predictions.Predict, request)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def classify(self, signature: str, examples: Sequence[bytes]) -> list[dict[str, float]]:
        """Sends one Classify request: serialized tf.Examples in, for each the score of every class out."""
        request = classification_pb2.ClassificationRequest(model_spec=self._spec(signature))
        request.input.example_list.examples.extend(map(tf.train.Example.FromString, examples))
        response = self._call(self._predictions.Classify, request)
        return [{c.label: c.score for c in found.classes} for found in response.result.classifications]

    def states(self) -> dict[int, str]:
        """The versions and their states, such as `AVAILABLE`."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        found = self._call(self._status.GetModelStatus, request).model_version_status
        return {status.version: name_of(status.state) for status in found}

    def _spec(self, signature: str = "") -> model_pb2.ModelSpec:
        return model_pb2.ModelSpec(name=self.name, signature_name=signature)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            kind = tf.compat.v1.errors.exception_type_from_error_code(error.code().value[0])
            raise kind(None, None, error.details()) from error
