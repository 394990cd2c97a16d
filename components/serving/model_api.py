"""TensorFlow Serving's API independent of the protocol, so that gRPC and REST give the same answers.

Status codes and messages are those of TensorFlow Serving 2.x (tensorflow_serving/servables/tensorflow/{predict_util,
classifier,get_model_metadata_impl}.cc and model_servers/{server_core,get_model_status_impl}.cc), so that its clients
cannot tell the difference; only the limits are ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec

from components.serving import request_checks
from components.serving.batching import Arrays, Batcher, Question
from components.serving.model_versions import ModelVersions, NoSuchVersionError
from components.serving.request_checks import invalid
from components.serving.request_size import TooLargeError
from components.serving.served_model import ServedModel, first_line, signature_name
from core.settings.serving import ServerLimits

_LOG = logging.getLogger(__name__)
_SIGNATURE_DEF = "signature_def"
_CODES = {code.value[0]: code for code in grpc.StatusCode}  # TensorFlow's codes are gRPC's


class RefusedError(Exception):
    """A request is refused, with a code and a message for the client.

    Attributes:
        too_large: whether it is refused for its size, for which HTTP has its own status.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.too_large = too_large


@dataclasses.dataclass
class Call:
    """A request from its arrival to its answer; what is not yet known is empty.

    Attributes:
        protocol: `grpc` or `rest`.
        method: `Predict`, `Classify`, …
        end: when it times out, on the monotonic clock.
        model: the requested name.
        version: of the model; 0 while unknown.
        images: the encoded images, in the order of the outputs; empty if it has none or sends something else.
        outputs: of the model.
        code: the outcome.
        message: why it was refused.
        seconds: from its arrival to its answer.
    """

    protocol: str
    method: str
    end: float = math.inf
    model: str = ""
    version: int = 0
    signature: str = ""
    images: Sequence[bytes] = ()
    outputs: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    code: str = grpc.StatusCode.OK.name
    message: str = ""
    seconds: float = 0.0


class ModelApi:
    """The methods of the API for one model."""

    def __init__(
        self,
        name: str,
        versions: ModelVersions,
        limits: ServerLimits,
        batcher: Batcher,
        answered: Iterable[Callable[[Call], None]] = (),
    ) -> None:
        """`answered` are called with every request once it is answered."""
        self.name = name
        self.limits = limits
        self._versions = versions
        self._batcher = batcher
        self._answered = list(answered)

    @contextlib.asynccontextmanager
    async def call(self, protocol: str, method: str, seconds: float = math.inf) -> AsyncIterator[Call]:
        """A request within the block, whose client waits for `seconds`.

        Raises:
            RefusedError: for whatever the block raises.
        """
        start = time.monotonic()
        call = Call(protocol, method, start + min(self.limits.request_seconds, max(0.0, seconds)))
        try:
            yield call
        except RefusedError as refusal:
            call.code, call.message = refusal.code.name, refusal.message
            raise
        except Exception as error:
            told = _refusal(error, method)
            call.code, call.message = told.code.name, told.message
            raise told from error
        except BaseException:  # the client has gone, or the server ends
            call.code = grpc.StatusCode.CANCELLED.name
            raise
        finally:
            call.seconds = time.monotonic() - start
            for tell in self._answered:
                try:
                    tell(call)
                except Exception:  # a full disk under the request log must not cost an answer
                    _LOG.exception("recording a request failed")

    @contextlib.contextmanager
    def use(self, spec: ModelSpec, call: Call) -> Iterator[tuple[ModelSpec, ServedModel]]:
        """The version that a request is for, and its `ModelSpec` for the response.

        Raises:
            tf.errors.OpError: there is no such model or version.
        """
        call.model, call.signature = spec.name, signature_name(spec)
        number = self._version_number(spec)
        try:
            if spec.name != self.name:
                raise NoSuchVersionError
            with self._versions.use(number) as (version, model):
                call.version = version
                yield ModelSpec(name=spec.name, signature_name=call.signature, version={"value": version}), model
        except NoSuchVersionError:
            which = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {which}") from None

    def question(
        self, call: Call, model: ServedModel, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> Question:
        """The question of a call whose names and shapes have passed `request_checks`.

        Raises:
            tf.errors.InvalidArgumentError: its images together have too many pixels.
            TooLargeError: a tf.Example has too many fields.
        """
        strings = {name: value for name, value in inputs.items() if value.dtype == object}
        images = request_checks.images_of(strings)
        call.images = [group[-1] if group else b"" for group in images]
        pixels = request_checks.check_pixels(images, self.limits)
        return Question(call.version, model, call.signature, inputs, outputs, pixels, call.end)

    async def predict(self, call: Call, question: Question) -> Arrays:
        """The outputs of the signature."""
        call.outputs = outputs = await self._batcher.run(question)
        return outputs

    async def classify(self, call: Call, question: Question) -> list[list[tuple[str, float]]]:
        """For each serialized tf.Example the score of every class."""
        outputs = await self.predict(call, question)
        rows = zip(outputs["classes"], outputs["scores"].tolist(), strict=True)
        return [[(name.decode(), score) for name, score in zip(names, scores, strict=True)] for names, scores in rows]

    def metadata(self, request: GetModelMetadataRequest, call: Call) -> GetModelMetadataResponse:
        """The signatures."""
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        with self.use(request.model_spec, call) as (spec, model):
            spec.signature_name = ""
            response = GetModelMetadataResponse(model_spec=spec)
            response.metadata[_SIGNATURE_DEF].Pack(SignatureDefMap(signature_def=model.signatures))
            return response

    def status(self, request: GetModelStatusRequest, call: Call) -> GetModelStatusResponse:
        """The state of the requested version, or of all."""
        call.model = name = request.model_spec.name
        number = self._version_number(request.model_spec)
        versions = [v for v in self._versions.states() if name == self.name and number in (None, v.number)]
        if not versions:
            which = "any versions" if number is None else f"version {number}"
            raise tf.errors.NotFoundError(None, None, f"Could not find {which} of model {name}")
        response = GetModelStatusResponse()
        for version in versions:
            code = tf.errors.UNKNOWN if version.error else tf.errors.OK
            status = {"error_code": code, "error_message": version.error}
            response.model_version_status.add(version=version.number, state=version.state, status=status)
        return response

    def _version_number(self, spec: ModelSpec) -> int | None:
        """The requested version; None means the latest."""
        if spec.WhichOneof("version_choice") == "version_label":
            number = self._versions.labels.get(spec.version_label)
            if number is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return number
        return spec.version.value if spec.HasField("version") else None


_NO_EXAMPLE = "what was sent is no tf.Example, which this signature takes; serving_images takes image files"


def _refusal(error: Exception, method: str) -> RefusedError:
    """The refusal that reports an error to the client."""
    if isinstance(error, TooLargeError):
        return RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), too_large=True)
    if isinstance(error, tf.errors.OpError):
        return RefusedError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), first_line(error))
    if isinstance(error, UnicodeDecodeError):  # TensorFlow cannot raise its error when that quotes such bytes
        return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, _NO_EXAMPLE)
    if isinstance(error, DecodeError):
        return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of this method")
    if isinstance(error, ValueError):
        return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    _LOG.error("%s failed", method, exc_info=error)  # an internal error, which must not end the server
    return RefusedError(grpc.StatusCode.INTERNAL, f"{type(error).__name__} in {method}")
