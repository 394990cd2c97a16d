"""An S3 and a Google Cloud Storage on 127.0.0.1, which this process and those that it starts reach as the real ones."""

import http.server
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Put = Callable[[dict[str, bytes]], None]

BUCKET = "photos"


class Store(NamedTuple):
    """The URL of a bucket, and what puts objects into it."""

    url: str
    put: Put


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3."""
    server = pytest.importorskip("moto.server", reason="the dev group is not installed").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With an empty bucket."""
    boto3 = pytest.importorskip("boto3", reason="the extra aws is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    bucket = boto3.resource("s3").Bucket(BUCKET)
    bucket.create()
    bucket.objects.all().delete()

    def put(files: dict[str, bytes]) -> None:
        for key, body in files.items():
            bucket.put_object(Key=key, Body=body)

    return Store(f"s3://{BUCKET}", put)


@pytest.fixture(scope="session")
def google_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A service account's key, and who gives tokens for it."""

    class Tokens(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"access_token": "token", "expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "project_id": "tests",
            "client_email": "tests@tests.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "token_uri": f"http://127.0.0.1:{server.server_port}",
        }
        file = tmp_path_factory.mktemp("google") / "account.json"
        file.write_text(json.dumps(account))
        yield file
        server.shutdown()


@pytest.fixture
def gs(google_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """With an empty bucket."""
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="the dev group is not installed")
    from google.cloud import storage

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google_credentials))
    with emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET):
        bucket = storage.Client.create_anonymous_client().bucket(BUCKET)

        def put(files: dict[str, bytes]) -> None:
            for key, body in files.items():
                bucket.blob(key).upload_from_string(body)

        yield Store(f"gs://{BUCKET}", put)


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Store:
    """One after the other."""
    return request.getfixturevalue(request.param)
