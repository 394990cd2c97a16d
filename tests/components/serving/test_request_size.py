"""What a request would take parsed is seen before it is parsed."""

import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from components.serving import request_size
from components.serving.request_size import Budget, TooLargeError
from tests.model_factory import example, image_bytes


def predict(*strings: bytes) -> bytes:
    request = PredictRequest()
    request.model_spec.name = "model"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(list(strings)))
    return request.SerializeToString()


def test_large_images_and_tensors_of_numbers_pass() -> None:
    request_size.check_predict(predict(*[bytes(2**20)] * 64))
    request = PredictRequest()
    request.inputs["packed"].CopyFrom(tf.make_tensor_proto(np.ones((64, 2048), np.float32)))
    request.inputs["listed"].float_val.extend([1.0] * 100_000)
    request_size.check_predict(request.SerializeToString())


def field(number: int, content: bytes) -> bytes:
    """A field with a length, of at most 2^28 bytes."""
    size = bytes(len(content) >> shift & 0x7F | 0x80 for shift in (0, 7, 14)) + bytes([len(content) >> 21])
    return bytes([number << 3 | 2]) + size + content


def many_strings() -> bytes:
    return field(2, field(2, field(8, b"") * 1_000_000))


def many_numbers() -> bytes:
    return field(2, field(2, field(10, bytes(1_000_000))))


def many_inputs() -> bytes:
    return field(2, field(1, b"")) * 1_000_000


def unknown_fields() -> bytes:
    return b"\x78\x01" * 1_000_000


@pytest.mark.parametrize("made", [many_strings, many_numbers, many_inputs, unknown_fields])
def test_what_grows_when_it_is_parsed_is_refused_unparsed(made) -> None:
    message = made()
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(TooLargeError):
        request_size.check_predict(message)
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert took < 5


def test_classify_is_split_without_parsing_an_example() -> None:
    request = ClassificationRequest()
    request.model_spec.name = "model"
    examples = [example(image_bytes(color), "x") for color in range(3)]
    request.input.example_list.examples.extend(examples)

    head, found = request_size.split_classify(request.SerializeToString())

    assert list(map(tf.train.Example.FromString, found)) == examples
    assert (head.model_spec.name, head.input.WhichOneof("kind")) == ("model", "example_list")
    with_context = ClassificationRequest()
    with_context.input.example_list_with_context.context.SetInParent()
    assert request_size.split_classify(with_context.SerializeToString())[0].input.WhichOneof("kind") == (
        "example_list_with_context"
    )


def test_the_images_of_an_example_are_found_whatever_else_it_has() -> None:
    one = example(b"picture", "label", brightness="dark")
    one.features.feature["numbers"].int64_list.value.extend(range(1000))
    assert request_size.images_in(one.SerializeToString(), Budget()) == [b"picture"]
    twice = one.SerializeToString() + example(b"another", "").SerializeToString()
    assert request_size.images_in(twice, Budget()) == [b"picture", b"another"]
    assert request_size.images_in(b"no example", Budget()) == []
    assert request_size.images_in(tf.train.Example().SerializeToString(), Budget()) == []


def test_an_example_of_a_million_features_is_refused() -> None:
    entry = example(b"", "").SerializeToString()
    with pytest.raises(TooLargeError, match="more than 65,536 values"):
        request_size.images_in(entry * 20_000, Budget())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(message: bytes) -> None:
    try:
        request_size.check_predict(message)
        request_size.split_classify(message)
    except (DecodeError, UnicodeDecodeError):
        pass
    assert isinstance(request_size.images_in(message, Budget()), list)
