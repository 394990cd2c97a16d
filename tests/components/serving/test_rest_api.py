"""REST as clients of TensorFlow Serving speak it, over plain HTTP: the answers of gRPC, its words, our limits."""

import base64
import contextlib
import gzip
import http.client
import json
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from components.serving.serving_checks import peak_rss_mb
from core import signatures
from core.settings.serving import ServerLimits
from tests.components.conftest import encoded
from tests.model_factory import COLORS, example, image_bytes, save_model

IMAGES = [image_bytes(color, seed=color) for color in range(3)]
PREDICT = "/v1/models/colors:predict"


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("served")
    models = {
        7: str(save_model(folder / "7", takes_features=True)),
        5: str(save_model(folder / "5", classes=["old", "x", "y"])),
    }
    versions = ModelVersions(lambda: models, labels={"stable": 5, "canary": 7})
    versions.poll()
    limits = ServerLimits(max_message_mb=2, max_megapixels=20, max_batch=8, request_seconds=20)
    made = ModelServer("colors", versions, limits, rest_port=0)
    yield made
    made.stop()
    versions.close()


def ask(
    server: ModelServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.rest_address, timeout=30)
    with contextlib.closing(connection):
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, content, headers or {})
        response = connection.getresponse()
        assert response.headers["content-type"] == "application/json"
        return response.status, json.loads(response.read())


def images_request(*images: bytes, **more: Any) -> dict[str, Any]:
    return {"signature_name": signatures.IMAGES, "instances": [b64(image) for image in images], **more}


def test_rows_and_columns_are_what_grpc_answers(server: ModelServer) -> None:
    with RemoteModel(server.address, "colors") as model:
        wanted = model.request(signatures.IMAGES, [*IMAGES, b"no image"])
    instances = [b64(image) for image in (*IMAGES, b"no image")]
    for body in (
        images_request(*IMAGES, b"no image"),
        {"signature_name": signatures.IMAGES, "instances": [{"images": image} for image in instances]},
        {"signature_name": signatures.IMAGES, "inputs": instances},
        {"signature_name": signatures.IMAGES, "inputs": {"images": instances}},
    ):
        status, answer = ask(server, "POST", PREDICT, body)
        assert status == 200, answer
        if "instances" in body:
            rows = answer["predictions"]
            answer = {"outputs": {name: [row[name] for row in rows] for name in rows[0]}}
        outputs = answer["outputs"]
        assert set(outputs) == set(wanted)
        for name, value in wanted.items():
            given = np.array(outputs[name])
            if value.dtype == object:
                assert given.tolist() == np.vectorize(bytes.decode)(value).tolist()
            else:
                np.testing.assert_array_equal(given.astype(value.dtype), value)


def test_the_default_signature_takes_examples(server: ModelServer) -> None:
    examples = [b64(example(image, "").SerializeToString()) for image in IMAGES]
    status, answer = ask(server, "POST", PREDICT, {"instances": examples})
    assert status == 200, answer
    assert [row["label"] for row in answer["predictions"]] == list(COLORS)


def test_numbers_go_in_too_and_one_output_alone_has_no_name(server: ModelServer) -> None:
    with RemoteModel(server.address, "colors") as model:
        (name,) = model.signatures[signatures.FEATURES].inputs
    rows = [[0.9, 0.0, 0.1], [0, 1, 0]]
    status, answer = ask(server, "POST", PREDICT, {"signature_name": signatures.FEATURES, "instances": rows})
    assert status == 200, answer
    assert [int(np.argmax(row["probabilities"])) for row in answer["predictions"]] == [0, 1]
    status, answer = ask(
        server,
        "POST",
        PREDICT,
        {"signature_name": signatures.LABELS, "inputs": [b64(example(IMAGES[0], "green").SerializeToString())]},
    )
    assert (status, answer) == (200, {"outputs": [1]})
    status, answer = ask(server, "POST", PREDICT, {"signature_name": signatures.FEATURES, "instances": [["a", 0, 1]]})
    assert (status, answer["error"]) == (400, f'JSON Value: "a" of {name} is not of expected type: float32')


def test_classify_takes_features_and_gives_labels_with_scores(server: ModelServer) -> None:
    body = {"signature_name": signatures.CLASSIFY, "examples": [{"image/encoded": b64(image)} for image in IMAGES]}
    status, answer = ask(server, "POST", "/v1/models/colors:classify", body)
    assert status == 200, answer
    assert [max(result, key=lambda pair: pair[1])[0] for result in answer["results"]] == list(COLORS)


def test_versions_and_labels_choose_the_model(server: ModelServer) -> None:
    for which, label in (("", "red"), ("/versions/5", "old"), ("/labels/stable", "old"), ("/labels/canary", "red")):
        status, answer = ask(server, "POST", f"/v1/models/colors{which}:predict", images_request(IMAGES[0]))
        assert (status, answer["predictions"][0]["label"]) == (200, label)


def test_rest_gives_the_status_and_metadata_of_a_model(server: ModelServer) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    status, answer = ask(server, "GET", "/v1/models/colors")
    assert (status, answer) == (
        200,
        {"model_version_status": [{"version": "5", **available}, {"version": "7", **available}]},
    )
    status, answer = ask(server, "GET", "/v1/models/colors/versions/7")
    assert (status, answer) == (200, {"model_version_status": [{"version": "7", **available}]})
    status, answer = ask(server, "GET", "/v1/models/colors/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "colors", "version": "7", "signature_name": ""}
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert definitions[signatures.IMAGES]["inputs"]["images"]["dtype"] == "DT_STRING"


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        ("POST /v1/models/other:predict", 404, "Servable not found for request: Latest(other)"),
        ("POST /v1/models/colors/versions/8:predict", 404, "Servable not found for request: Specific(colors, 8)"),
        ("POST /v1/models/colors/labels/x:predict", 400, "Unrecognized servable version label: x"),
        (f"POST /v1/models/colors/versions/{2**64}:predict", 400, f"Failed to convert version: {2**64} to numeric."),
        ("GET /v1/models/other", 404, "Could not find any versions of model other"),
        ("GET /v1/models", 400, "Missing model name in request."),
        (f"GET {PREDICT}", 400, f"Malformed request: GET {PREDICT}"),
        ("POST /v1/models/colors:explain", 400, "Malformed request: POST /v1/models/colors:explain"),
        ("POST /v1/models/colors:regress", 501, "Regress is not supported"),
        ("GET /", 404, "Not found: /"),
    ],
)
def test_what_is_not_there_is_refused_as_tensorflow_serving_refuses_it(
    request_line: str, status: int, words: str, server: ModelServer
) -> None:
    method, path = request_line.split()
    assert ask(server, method, path, {"instances": [""]} if method == "POST" else None) == (status, {"error": words})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: Input data was truncated"),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b'{"a":' * 5000, "JSON Parse error: "),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [], "inputs": []}, "Not formatted correctly expecting only  one of"),
        ({"instances": {}}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
        ({"instances": [1]}, "JSON Value: 1 is not of expected type: string"),
        ({"instances": ["", []]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[""]]}, "Cannot feed value of shape (1, 1)"),
        ({"instances": [{"images": ""}]}, "keys must be equal to: examples"),
        ({"instances": ["", {"examples": ""}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"inputs": {"images": [""]}}, "Missing named input: examples in 'inputs' object."),
        ({"signature_name": 3, "instances": [""]}, "'signature_name' key must be a string value."),
        ({"signature_name": "nope", "instances": [""]}, 'signature name: "nope" not found in signature def'),
        ({"instances": [b64(b"\xff\xff")]}, ""),
        ({"instances": [""] * 9}, "the request has 9 images; it may have at most 8"),
    ],
    ids=range(19),
)
def test_what_is_asked_wrongly_is_refused_as_tensorflow_serving_refuses_it(
    body: Any, words: str, server: ModelServer
) -> None:
    status, answer = ask(server, "POST", PREDICT, body)
    assert (status, list(answer)) == (400, ["error"]), answer
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"examples": [{}]}, "Expected classification signature method_name to be"),
        ({"signature_name": "classify"}, "key 'examples' is expected and was not found"),
        ({"signature_name": "classify", "examples": []}, "'examples' value is an empty array"),
        ({"signature_name": "classify", "examples": [{}] * 9}, "the request has 9 images; it may have at most 8"),
        ({"signature_name": "classify", "examples": [{"a": [1, "b"]}]}, "Unexpected element type in feature: a"),
        ({"signature_name": "classify", "examples": [{"a": 2**70}]}, "Feature: a has an element beyond int64"),
    ],
    ids=range(6),
)
def test_classify_refuses_too(body: Any, words: str, server: ModelServer) -> None:
    status, answer = ask(server, "POST", "/v1/models/colors:classify", body)
    assert status == 400, answer
    assert words in answer["error"]


def test_limits_are_those_of_grpc(server: ModelServer) -> None:
    black = [encoded(Image.new("L", (1000, 1000 * megapixels)), "PNG") for megapixels in (10, 11)]
    status, answer = ask(server, "POST", PREDICT, images_request(*black))
    assert status == 400
    assert answer["error"].startswith("the request's images have 21 million pixels together; they may have at most 20")
    image = bytes(2 * 2**20)
    status, answer = ask(server, "POST", PREDICT, images_request(image))
    assert (status, answer["predictions"][0]["error"][:12]) == (200, "not an image")
    status, answer = ask(server, "POST", PREDICT, images_request(image, bytes(2**17)))
    assert status == 413
    assert "is larger than max" in answer["error"]


@pytest.mark.parametrize("headers", [{"Content-Length": str(2**40)}, {"Transfer-Encoding": "chunked"}])
def test_a_body_without_end_is_not_read(headers: dict[str, str], server: ModelServer) -> None:
    host, port = server.rest_address.split(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        with contextlib.suppress(OSError):  # the server closes while we write
            for _ in range(100):
                connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b" 413 " in connection.recv(100)
    assert ask(server, "GET", "/v1/models/colors")[0] == 200


def test_json_of_many_small_values_is_not_parsed(server: ModelServer) -> None:
    body = b'{"instances":[' + b"{}," * 900_000 + b"{}]}"
    status, answer = ask(server, "POST", PREDICT, body)
    assert status == 413
    assert answer["error"].startswith("the request has more than 1,048,576 values")


GZIP = {"Content-Encoding": "gzip"}


def test_a_body_in_gzip_is_answered_as_it_is_without(server: ModelServer) -> None:
    noise = b64(np.random.default_rng(0).bytes(2**20))  # comes in many parts
    body = json.dumps({"signature_name": signatures.IMAGES, "instances": [b64(IMAGES[0]), noise]}).encode()
    for encoding in ("gzip", "GZIP"):
        answered = ask(server, "POST", PREDICT, gzip.compress(body), {"Content-Encoding": encoding})
        assert answered[0] == 200 and answered == ask(server, "POST", PREDICT, body)


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (b"x" * 100, "gzip", "the body is no gzip: "),
        (gzip.compress(b"{}")[:-4], "gzip", "the gzip of the body is cut short"),
        (gzip.compress(b"{}") * 2, "gzip", "the body has more than its gzip"),
        (b"", "gzip", "the gzip of the body is cut short"),
        (b"x", "br", "Content-Encoding br is not supported; send gzip, or the JSON as it is"),
        (b"x", "gzip, gzip", "Content-Encoding gzip, gzip is not supported"),
    ],
    ids=range(6),
)
def test_what_is_no_gzip_is_refused(body: bytes, encoding: str, words: str, server: ModelServer) -> None:
    status, answer = ask(server, "POST", PREDICT, body, {"Content-Encoding": encoding})
    assert status == 400, answer
    assert answer["error"].startswith(words)


def test_a_bomb_is_decompressed_as_far_as_a_body_may_be(server: ModelServer) -> None:
    packer, zeros = zlib.compressobj(wbits=31), bytes(2**20)
    bomb = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    before = peak_rss_mb()
    for headers in (GZIP, GZIP | {"Transfer-Encoding": "chunked"}):
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb) if len(headers) > 1 else bomb
        host, port = server.rest_address.split(":")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"Content-Length: {len(bomb)}\r\n" if len(headers) == 1 else ""
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")
    assert peak_rss_mb() - before < 60


def test_connections_that_send_nothing_keep_nobody_out(server: ModelServer) -> None:
    """Neither those without a request, nor those whose body does not come."""
    host, port = server.rest_address.split(":")
    with contextlib.ExitStack() as open_ones:
        stalled = [open_ones.enter_context(socket.create_connection((host, int(port)))) for _ in range(60)]
        for number, connection in enumerate(stalled):
            if number % 2:
                connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode())
        time.sleep(1.2)
        status, answer = ask(server, "POST", PREDICT, images_request(IMAGES[0]))
        assert status == 200, answer


def raw(server: ModelServer, request: bytes, seconds: float = 10) -> bytes:
    """All that a server answers until it closes the connection."""
    host, port = server.rest_address.split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


BODY = json.dumps({"signature_name": signatures.IMAGES, "instances": [b64(IMAGES[0])]}).encode()


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_the_type_of_a_body_does_not_matter(kind: str | None, server: ModelServer) -> None:
    assert ask(server, "POST", PREDICT, BODY, {"Content-Type": kind} if kind else {})[0] == 200


def test_chunks_and_http_1_0_are_understood(server: ModelServer) -> None:
    parts = [BODY[:10], BODY[10:11], BODY[11:]]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(server, head.encode() + chunked).startswith(b"HTTP/1.1 200 OK")
    head = f"POST {PREDICT} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n"
    answer = raw(server, head.encode() + BODY)
    assert answer.startswith(b"HTTP/1.1 200 OK") and b'"label":"red"' in answer


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
def test_other_methods_are_refused_in_words_and_the_answer_to_head_has_no_body(
    method: str, server: ModelServer
) -> None:
    answer = raw(server, f"{method} /v1/models/colors HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    error = {"error": f"Malformed request: {method} /v1/models/colors"}
    assert body == b"" if method == "HEAD" else json.loads(body) == error


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 66_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client of TLS \r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["large", "no host", "no ascii", "tls", "negative"],
)
def test_what_is_no_request_is_answered_at_once(request_: bytes, server: ModelServer) -> None:
    assert raw(server, request_, 5).startswith(b"HTTP/1.1 400 ")


def test_connections_are_kept_for_several_requests(server: ModelServer) -> None:
    with contextlib.closing(http.client.HTTPConnection(server.rest_address, timeout=20)) as connection:
        for _ in range(3):
            connection.request("POST", PREDICT, BODY)
            response = connection.getresponse()
            assert response.status == 200 and json.loads(response.read())
            kept = connection.sock
            assert kept is not None
