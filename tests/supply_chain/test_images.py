"""Pins of base images, from a registry of our own that asks for a token, as Docker Hub does."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from supply_chain import images
from tests.conftest import ROOT

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


class Registry(http.server.BaseHTTPRequestHandler):
    """Has base:1 and beam:2."""

    def do_GET(self) -> None:
        host = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path.startswith("/token?"):
            self.reply(200, b'{"token": "t"}')
        elif self.headers.get("Authorization") != "Bearer t":
            self.reply(401, b"", **{"WWW-Authenticate": f'Bearer realm="{host}/token",service="s"'})
        elif self.path in (f"/v2/{n}/manifests/{r}" for n, t in (("base", "1"), ("x/beam", "2")) for r in (t, DIGEST)):
            self.reply(200, self.server.sent, **{"Docker-Content-Digest": DIGEST})
        else:
            self.reply(404, b"")

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def registry() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.sent = MANIFEST
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def dockerfile(registry: http.server.ThreadingHTTPServer, tmp_path: Path) -> Path:
    """Ours, with its images at the registry."""
    host = f"127.0.0.1:{registry.server_port}"
    text = (ROOT / "Dockerfile").read_text()
    for image, ours in (("python:3.10-slim-bookworm", "base:1"), ("apache/beam_python3.10_sdk:2.56.0", "x/beam:2")):
        assert image in text
        text = text.replace(image, f"{host}/{ours}")
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    return path


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda path, *options: Done(images.main(["--dockerfile", str(path), *options]), *capsys.readouterr())


def test_images_are_pinned_to_what_the_registry_has_and_the_check_passes_then(run: Run, dockerfile: Path) -> None:
    before = dockerfile.read_text()
    done = run(dockerfile, "--check")
    assert done.returncode == 1 and done.stdout.count("is not pinned: run make pin-images") == 2
    assert run(dockerfile).returncode == 0
    after = dockerfile.read_text()
    assert after.count(f"@{DIGEST}") == 2 and after.replace(f"@{DIGEST}", "") == before
    assert run(dockerfile, "--check", "--if-reachable").returncode == 0
    assert run(dockerfile).returncode == 0 and dockerfile.read_text() == after, "once more changes nothing"


def test_a_pin_that_the_registry_has_not_fails(run: Run, dockerfile: Path) -> None:
    run(dockerfile)
    dockerfile.write_text(dockerfile.read_text().replace(DIGEST, f"sha256:{'0' * 64}"))
    done = run(dockerfile, "--check", "--if-reachable")
    assert done.returncode == 1 and "its registry has no such image" in done.stdout


def test_a_registry_that_sends_something_else_is_not_believed(
    run: Run, dockerfile: Path, registry: http.server.ThreadingHTTPServer
) -> None:
    registry.sent = b"{}"
    before = dockerfile.read_text()
    done = run(dockerfile)
    assert done.returncode == 2 and "nothing is changed" in done.stderr
    assert dockerfile.read_text() == before


def test_without_a_registry_nothing_is_changed_and_the_check_says_so_in_a_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("ARG BASE=127.0.0.1:9/base:1\n")
    assert run(path).returncode == 2 and run(path, "--check").returncode == 1
    done = run(path, "--check", "--if-reachable")
    assert done.returncode == 0 and done.stdout.startswith("images: not checked") and done.stdout.count("\n") == 1
    assert "not pinned: 127.0.0.1:9/base:1" in done.stdout


def test_the_images_of_our_dockerfile_are_found() -> None:
    asked: list[str] = []
    images.pinned((ROOT / "Dockerfile").read_text(), lambda image: asked.append(image) or DIGEST)
    assert [image.partition(":")[0] for image in asked] == ["python", "apache/beam_python3.10_sdk"]
