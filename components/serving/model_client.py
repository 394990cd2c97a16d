"""A client for a model behind TensorFlow Serving's gRPC API, used as if the model were in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from core.loopback import is_loopback


class RemoteModel:
    """The latest version of a served model.

    gRPC's errors are raised as TensorFlow's of the same code, `tf.errors.OpError`.
    """

    def __init__(
        self, address: str, name: str, timeout_seconds: float = 60, tls: grpc.ChannelCredentials | None = None
    ) -> None:
        """Asks the server at `address`, host:port, for the model's signatures; encrypted with `tls`.

        Raises:
            tf.errors.OpError: there is no server (`UnavailableError`) or no such model (`NotFoundError`).
        """
        self.name = name
        self._timeout = timeout_seconds
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        if is_loopback(address):
            options.append(("grpc.enable_http_proxy", 0))  # it is for the world; this machine is not behind it
        self._channel = grpc.secure_channel(address, tls, options) if tls else grpc.insecure_channel(address, options)
        self._predictions = PredictionServiceStub(self._channel)
        request = GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        found = SignatureDefMap()
        self._call(self._predictions.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        self.signatures = dict(found.signature_def)

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()

    def request(self, signature: str, values: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Sends one Predict request; see `ServedModel.request`."""
        (name,) = self.signatures[signature].inputs
        inputs = {name: tf.make_tensor_proto(list(values), tf.string, [len(values)])}
        response = self._call(
            self._predictions.Predict, PredictRequest(model_spec=self._spec(signature), inputs=inputs)
        )
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def classify(self, signature: str, examples: Sequence[bytes]) -> list[dict[str, float]]:
        """Sends one Classify request: serialized tf.Examples in, the score of every class for each out."""
        request = ClassificationRequest(model_spec=self._spec(signature))
        request.input.example_list.examples.extend(map(tf.train.Example.FromString, examples))
        response = self._call(self._predictions.Classify, request)
        return [{c.label: c.score for c in found.classes} for found in response.result.classifications]

    def states(self) -> dict[int, str]:
        """The versions and their states, such as `AVAILABLE`."""
        stub = ModelServiceStub(self._channel)
        response = self._call(stub.GetModelStatus, GetModelStatusRequest(model_spec=self._spec()))
        return {v.version: ModelVersionStatus.State.Name(v.state) for v in response.model_version_status}

    def _spec(self, signature: str = "") -> ModelSpec:
        return ModelSpec(name=self.name, signature_name=signature)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            kind = tf.compat.v1.errors.exception_type_from_error_code(error.code().value[0])
            raise kind(None, None, error.details()) from error
