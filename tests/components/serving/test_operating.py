"""What whoever operates a server relies on: health, reflection, metrics, the request log, TLS, and that it stays up."""

import contextlib
import datetime
import errno
import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from components.serving import grpc_api, request_logger, rest_api
from components.serving.metrics import Metrics
from components.serving.model_api import Call
from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from components.serving.request_logger import RequestLogger
from components.serving.tls import TlsFiles
from core import signatures
from core.artifacts import request_log
from core.errors import InputError
from core.settings.serving import RequestLogSettings, ServerLimits
from tests.model_factory import example, image_bytes, save_model

IMAGES = [image_bytes(color, seed=color) for color in range(3)]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
LIMITS = ServerLimits(max_message_mb=8, max_batch=8, concurrent=1, waiting=5, request_seconds=20)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelVersions]:
    model = save_model(tmp_path_factory.mktemp("operated") / "7")
    made = ModelVersions(lambda: {7: str(model)})
    made.poll()
    yield made
    made.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> RequestLogger:
    folder = tmp_path_factory.mktemp("log") / "requests"
    return RequestLogger(folder, RequestLogSettings(str(folder), images=True))


@pytest.fixture(scope="module")
def server(versions: ModelVersions, log: RequestLogger) -> Iterator[ModelServer]:
    made = ModelServer("colors", versions, LIMITS, rest_port=0, answered=[log.answered], metrics=Metrics())
    yield made
    made.stop()


@pytest.fixture
def channel(server: ModelServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as made:
        yield made


def test_the_health_service_tells_a_server_that_serves(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=20)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)).status == 1


def test_reflection_describes_the_services(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest
    asked = [request(list_services=""), request(file_containing_symbol="tensorflow.serving.PredictRequest")]
    listed, described = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked), timeout=20)
    assert {service.name for service in listed.list_services_response.service} == {
        "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    assert described.file_descriptor_response.file_descriptor_proto


def test_streams_without_a_message_keep_nobody_out(server: ModelServer, channel: grpc.Channel) -> None:
    """Neither from predictions nor from health, though they are many more than there are places."""
    stalled = []
    for method in (PREDICT, "/grpc.health.v1.Health/Check"):
        for _ in range(40):
            call = channel.stream_unary(method)
            stalled.append(call.future(iter(lambda: time.sleep(60), None)))
    time.sleep(1.2)
    with RemoteModel(server.address, "colors") as model:
        for _ in range(3):
            assert model.request(signatures.IMAGES, IMAGES)["label"].tolist() == [b"red", b"green", b"blue"]
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == 1
    for call in stalled:
        call.cancel()


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_message_of_empty_strings_takes_no_more_memory_than_its_bytes(channel: grpc.Channel) -> None:
    tensor = b"\x42\x00" * 2_000_000  # TensorProto.string_val; parsed, some 130 MB
    message = b""
    for number, content in ((2, tensor), (2, None)):
        content = message if content is None else content
        size = bytes(len(content) >> shift & 0x7F | 0x80 for shift in (0, 7, 14)) + bytes([len(content) >> 21])
        message = bytes([number << 3 | 2]) + size + content
    before = memory_mb()
    send = channel.unary_unary(PREDICT)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as refused:
            send(message, timeout=20)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "more than 65,536 values" in refused.value.details()
    assert memory_mb() - before < 60


def test_what_is_no_message_is_the_clients_error(channel: grpc.Channel) -> None:
    for message in (b"\xff\xff\xff", b"\x0a\xff"):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(PREDICT)(message, timeout=20)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(PREDICT)(iter(()), timeout=20)
    assert refused.value.details() == "the request has no message"


def get(address: str, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=20)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


def samples(server: ModelServer) -> dict[tuple[str, frozenset[str]], float]:
    """Every sample of the metrics by its name and its labels' values."""
    text = get(server.rest_address, "/metrics").decode()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.values())): s.value for family in families for s in family.samples}


def test_metrics_count_requests_images_labels_and_batches(server: ModelServer) -> None:
    before = samples(server)
    with RemoteModel(server.address, "colors") as model, futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: model.request(signatures.IMAGES, [IMAGES[n % 3], b"no image"]), range(6)))
        with contextlib.suppress(Exception):
            model.request(signatures.IMAGES, [b""] * 9)
    after = samples(server)

    def now(name: str, *labels: str) -> float:
        return after[name, frozenset(labels)]

    def grown(name: str, *labels: str) -> float:
        return now(name, *labels) - before.get((name, frozenset(labels)), 0)

    assert grown("model_server_requests_total", "grpc", "Predict", "7", "OK") == 6
    assert grown("model_server_requests_total", "grpc", "Predict", "7", "INVALID_ARGUMENT") == 1
    assert grown("model_server_request_seconds_count", "grpc", "Predict") == 7
    assert grown("model_server_images_total", "7", "classified") == 6
    assert grown("model_server_images_total", "7", "error") == 6
    assert grown("model_server_predictions_total", "7", "green") == 2
    assert grown("model_server_batch_images_sum") == 12
    assert grown("model_server_batch_requests_sum") == 6
    assert now("model_server_version", "7", "AVAILABLE") == 1
    assert now("model_server_waiting_requests") == 0
    assert now("process_resident_memory_bytes") > 1e6


def test_the_request_log_has_a_line_for_each_image_whatever_asked(server: ModelServer, log: RequestLogger) -> None:
    with RemoteModel(server.address, "colors") as model:
        model.request(signatures.IMAGES, [IMAGES[0], b"no image"])
        model.classify(signatures.CLASSIFY, [example(IMAGES[1], "").SerializeToString()])
    log.close()

    folder = next(iter(log.folder.glob(request_log.PATTERN))).parent
    found = list(request_log.read(folder, pytest.fail))[-3:]
    assert [(one.label, one.format, one.width, one.height, one.bytes) for one in found] == [
        ("red", "JPEG", 24, 24, len(IMAGES[0])), ("", "", 0, 0, 8), ("green", "JPEG", 24, 24, len(IMAGES[1])),
    ]  # fmt: skip
    assert found[1].error == "not an image, or none of JPEG, PNG, GIF, BMP"
    assert found[0].probabilities == pytest.approx({"red": found[0].probability, "green": 0, "blue": 0}, abs=0.01)
    assert (found[0].model, found[0].version, found[0].reason) == ("colors", 7, "")
    assert found[0].novelty is not None and 0 <= found[0].novelty <= 1
    assert found[2].novelty is None  # Classify does not say
    assert abs(datetime.datetime.fromisoformat(found[0].time[:-1] + "+00:00").timestamp() - time.time()) < 60
    assert [(folder / one.file).read_bytes() if one.file else None for one in found] == [IMAGES[0], None, IMAGES[1]]
    assert folder.stat().st_mode & 0o077 == 0


def test_without_a_log_there_is_none_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no request log in"):
        list(request_log.read(tmp_path, pytest.fail))


def test_the_oldest_of_a_log_goes_when_it_is_too_much_or_too_old(tmp_path: Path) -> None:
    names = [f"requests-2026110{day}T000000.000000Z-1.jsonl" for day in range(1, 6)]
    for age, name in enumerate(reversed(names)):
        (tmp_path / name).write_bytes(bytes(400_000))
        os.utime(tmp_path / name, (time.time() - age * 86_400 - 60,) * 2)

    RequestLogger(tmp_path, RequestLogSettings(str(tmp_path), max_mb=1, max_days=3.5)).close()

    assert sorted(path.name for path in tmp_path.glob("requests-*")) == names[-2:]


def test_pictures_of_others_in_the_folder_of_a_log_stay(tmp_path: Path) -> None:
    """Many a data set has its pictures in `images/`, as a log has."""
    (tmp_path / "images").mkdir()
    ours = ("0" * 64, f".{'a' * 64}.77")
    for name in ("one.jpg", "requests.png", "0123abcd", *ours):
        (tmp_path / "images" / name).touch()
        os.utime(tmp_path / "images" / name, (0, 0))

    RequestLogger(tmp_path, RequestLogSettings(str(tmp_path))).close()

    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["0123abcd", "one.jpg", "requests.png"]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for 127.0.0.1 that is its own authority, and that clients need, too."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "served")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "certificate.pem")
    files.certificate.write_bytes(certificate.public_bytes(pem))
    plain, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files.key.write_bytes(key.private_bytes(pem, plain, no_password))
    return files


def test_both_doors_are_encrypted_and_know_their_clients(versions: ModelVersions, tls: TlsFiles) -> None:
    tls.check()
    server = ModelServer("colors", versions, LIMITS, rest_port=0, tls=tls)
    try:
        pem = tls.certificate.read_bytes()
        known = grpc.ssl_channel_credentials(pem, tls.key.read_bytes(), pem)
        with RemoteModel(server.address, "colors", tls=known) as model:
            assert model.request(signatures.IMAGES, IMAGES[:1])["label"].tolist() == [b"red"]
        stranger = grpc.ssl_channel_credentials(pem)
        with pytest.raises(Exception, match=r"failed to connect|Socket closed|handshake"):
            RemoteModel(server.address, "colors", 20, tls=stranger)
        context = ssl.create_default_context(cafile=tls.certificate)
        context.load_cert_chain(tls.certificate, tls.key)
        with contextlib.closing(http.client.HTTPSConnection(server.rest_address, context=context)) as connection:
            connection.request("GET", "/v1/models/colors")
            assert json.loads(connection.getresponse().read())["model_version_status"][0]["state"] == "AVAILABLE"
        with (
            pytest.raises((ssl.SSLError, OSError)),
            contextlib.closing(
                http.client.HTTPSConnection(
                    server.rest_address, context=ssl.create_default_context(cafile=tls.certificate)
                )
            ) as connection,
        ):
            connection.request("GET", "/v1/models/colors")
            connection.getresponse()
    finally:
        server.stop()


def test_files_of_tls_that_do_not_fit_are_told_before_anything_starts(tls: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent"):
        TlsFiles(tmp_path / "absent", tls.key).check()
    (tmp_path / "key").write_text("no key")
    with pytest.raises(InputError, match="are no certificate and its unencrypted key in PEM"):
        TlsFiles(tls.certificate, tmp_path / "key").check()
    with pytest.raises(InputError, match="name both"):
        TlsFiles.given(tls.certificate, None, None)


def test_a_log_goes_on_in_a_new_file_when_its_own_is_gone(versions: ModelVersions, tmp_path: Path) -> None:
    logger = RequestLogger(tmp_path, RequestLogSettings(str(tmp_path), max_mb=1))
    server = ModelServer("colors", versions, LIMITS, answered=[logger.answered])
    with RemoteModel(server.address, "colors") as model:
        for _ in range(2):
            model.request(signatures.IMAGES, IMAGES)
            while not list(tmp_path.glob("*")):
                time.sleep(0.01)
            time.sleep(0.2)
            for path in tmp_path.glob("*"):
                path.unlink()
        model.request(signatures.IMAGES, [IMAGES[1]])
    server.stop()
    logger.close()
    assert [one.label for one in request_log.read(tmp_path, pytest.fail)] == ["green"]
    with next(tmp_path.glob("*")).open("a") as file:
        file.write('{"time": "2026-')  # what a killed server leaves
    assert len(list(request_log.read(tmp_path, pytest.fail))) == 1


def test_a_compressed_message_of_grpc_is_decompressed_as_far_as_one_may_be(server: ModelServer) -> None:
    request = PredictRequest(model_spec=ModelSpec(name="colors", signature_name=signatures.IMAGES))
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(IMAGES))
    before = memory_mb()
    with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        send = channel.unary_unary(PREDICT, PredictRequest.SerializeToString, PredictResponse.FromString)
        assert send(request, timeout=20).outputs["label"].string_val[0] == b"red"
        bomb = channel.unary_unary(PREDICT)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as refused:
                bomb(bytes(200 * 2**20), timeout=20)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused.value.details()
    assert memory_mb() - before < 100


def test_tls_that_never_shakes_hands_is_ended_and_keeps_nobody_out(
    versions: ModelVersions, tls: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_api, "_IDLE_SECONDS", 1)
    monkeypatch.setattr(grpc_api, "_HANDSHAKE_MS", 1000)
    server = ModelServer("colors", versions, LIMITS, rest_port=0, tls=tls)
    try:
        with contextlib.ExitStack() as open_ones:
            stalled = []
            for address in (server.address, server.rest_address):
                host, port = address.split(":")
                for number in range(20):
                    connection = open_ones.enter_context(socket.create_connection((host, int(port)), timeout=10))
                    connection.sendall(b"\x16\x03\x01"[: number % 4])
                    stalled.append(connection)
            context = ssl.create_default_context(cafile=tls.certificate)
            context.load_cert_chain(tls.certificate, tls.key)
            with contextlib.closing(http.client.HTTPSConnection(server.rest_address, context=context)) as connection:
                connection.request("GET", "/v1/models/colors")
                assert connection.getresponse().status == 200
            for connection in stalled:
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(100):  # until the server closes it
                        pass
    finally:
        server.stop()


def test_an_answer_that_nobody_takes_is_not_kept(versions: ModelVersions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP its connection ends; that over gRPC its place goes to the next, test_admission.py says."""
    monkeypatch.setattr(rest_api, "_IDLE_SECONDS", 0.5)
    large = bytes(64 * 2**20)
    server = ModelServer("colors", versions, LIMITS, rest_port=0, metrics=Metrics())
    monkeypatch.setattr(Metrics, "text", lambda _: (large, "text/plain"))
    try:
        host, port = server.rest_address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(2)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while some := connection.recv(2**20):
                    received += len(some)
            assert received < len(large)
    finally:
        server.stop()


def test_a_disk_that_takes_no_log_is_reported_once_a_minute_and_costs_no_answer(
    versions: ModelVersions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = RequestLogger(tmp_path, RequestLogSettings(str(tmp_path), images=True))
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "open", full)
    server = ModelServer("colors", versions, LIMITS, answered=[logger.answered])
    with RemoteModel(server.address, "colors") as model:
        for _ in range(5):
            assert model.request(signatures.IMAGES, IMAGES)["label"].tolist() == [b"red", b"green", b"blue"]
    server.stop()
    logger.close()
    told = [record.message for record in caplog.records if "request log" in record.message]
    assert len(told) == 2 and sum(int(text.split()[0]) for text in told) == 15, told
    assert "No space left on device" in told[0]


def full(path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_disk_that_hangs_keeps_no_server_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(request_logger, "_CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(Path, "touch", lambda *_, **__: hangs.wait())
    logger = RequestLogger(tmp_path, RequestLogSettings(str(tmp_path)))
    call = Call("grpc", "Predict", images=[b"x"] * 2000, outputs={"label": np.array([b"a"] * 2000)})
    logger.answered(call)
    began = time.monotonic()
    logger.close()
    assert time.monotonic() - began < 5
    hangs.set()


def test_two_servers_write_one_log(versions: ModelVersions, tmp_path: Path) -> None:
    loggers = [RequestLogger(tmp_path, RequestLogSettings(str(tmp_path), images=True)) for _ in range(2)]
    servers = [ModelServer("colors", versions, LIMITS, answered=[logger.answered]) for logger in loggers]
    for server in servers:
        with RemoteModel(server.address, "colors") as model:
            for _ in range(3):
                model.request(signatures.IMAGES, IMAGES)
        server.stop()
    for logger in loggers:
        logger.close()
    entries = list(request_log.read(tmp_path, pytest.fail))
    assert len(entries) == 18 and len(list((tmp_path / "images").iterdir())) == 3


def test_an_address_of_ip_6_serves_both_doors(versions: ModelVersions) -> None:
    server = ModelServer("colors", versions, LIMITS, host="::1", rest_port=0)
    try:
        assert server.address.startswith("[::1]:")
        with RemoteModel(server.address, "colors") as model:
            assert model.states() == {7: "AVAILABLE"}
        assert json.loads(get(server.rest_address, "/v1/models/colors"))["model_version_status"]
    finally:
        server.stop()
