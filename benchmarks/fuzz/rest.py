"""What a model server may be sent over HTTP: JSON of every shape, with images, whole and damaged, and other paths."""

from __future__ import annotations

import base64
import http.client
import json
import random
from typing import Any

from benchmarks.fuzz import images
from benchmarks.fuzz.mutations import NUMBERS, mutated
from benchmarks.fuzz.target import Target, check_message, model_folder, scratch_folder
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from core import signatures
from core.settings.serving import ServerLimits

_NAME = "fuzzed"
_LIMITS = ServerLimits(max_message_mb=2, max_batch=8, request_seconds=20)
_MODEL = f"/v1/models/{_NAME}"
_PATHS = (
    f"POST {_MODEL}:predict", f"POST {_MODEL}:predict", f"POST {_MODEL}:predict", f"POST {_MODEL}:classify",
    f"GET {_MODEL}", f"GET {_MODEL}/metadata", f"POST {_MODEL}/versions/{2**70}:predict", "GET /metrics",
    f"POST {_MODEL}/labels/%00%ff:predict", f"GET {_MODEL}/versions/-1", f"POST {_MODEL}:regress", "PUT /",
    "GET /v1/models",
)  # fmt: skip
_TOKENS = [
    b'{"b64":"', b'"instances":', b'"inputs":', b'"examples":', b"null", b"1e999", b"-0", b"[" * 200, b"\\ud800", b'"',
    b"\xff", b"{}," * 500,
]  # fmt: skip
_REFUSALS = {400, 404, 413, 429, 501}


class Rest(Target):
    """A server in this process, asked over a connection; an input's first line names the method and the path.

    Every request must be answered or refused as the client's fault, and the server answer a good one afterwards.
    """

    name = "rest"

    def __init__(self) -> None:
        self._folder = scratch_folder()
        model = model_folder(self._folder.name)
        self._versions = ModelVersions(lambda: {7: model})
        self._versions.poll()
        self._server = ModelServer(_NAME, self._versions, _LIMITS, rest_port=0)
        self._images = images.served()
        self._seeds = [
            self._predict({"instances": [self._b64(0), self._b64(1)]}),
            self._predict({"inputs": {"images": [self._b64(n) for n in range(3)]}}),
            self._predict({"instances": [{"images": self._b64(2)}]}),
            f"POST {_MODEL}:classify\n".encode()
            + json.dumps({"signature_name": "classify", "examples": [{"image/encoded": self._b64(0)}]}).encode(),
            f"GET {_MODEL}\n".encode(),
        ]
        self._turns = 0

    def close(self) -> None:
        self._server.stop()
        self._versions.close()
        self._folder.cleanup()

    def seeds(self) -> list[bytes]:
        return self._seeds

    def make(self, chance: random.Random) -> bytes:
        kind = chance.random()
        if kind < 0.3:
            files = [mutated(self._images, chance) for _ in range(chance.choice((1, 1, 3)))]
            return self._predict({"instances": [{"b64": base64.b64encode(file).decode()} for file in files]})
        if kind < 0.7:
            document = {
                chance.choice(("instances", "instances", "inputs", "examples", "context")): self._odd(chance, 0)
                for _ in range(chance.choice((1, 1, 1, 2)))
            }
            document["signature_name"] = chance.choice((*[signatures.IMAGES] * 5, "classify", "", "a\0b", 3, None))
            line = chance.choice(_PATHS)
            return f"{line}\n".encode() + json.dumps(document).encode()
        line, _, body = chance.choice(self._seeds).partition(b"\n")
        if chance.random() < 0.3:
            line = chance.choice(_PATHS).encode()
        return line + b"\n" + mutated([body or b"{}"], chance, _TOKENS)

    def attempt(self, data: bytes) -> str:
        outcome = self._send(data)
        self._turns += 1
        if self._turns % 500 == 0:
            assert self._send(self._seeds[0]) == "answered", "a good request is refused now"
        return outcome

    def _odd(self, chance: random.Random, depth: int) -> Any:
        """Any JSON; at first what is nearly right."""
        kind = chance.random()
        if kind < 0.35:
            return self._b64(chance.randrange(len(self._images)))
        if kind < 0.65 and depth < 6:
            return [self._odd(chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2, 8, 9)))]
        if kind < 0.8 and depth < 6:
            names = ("images", "examples", "b64", "image/encoded", "", "x" * 3000)
            return {chance.choice(names): self._odd(chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)))}
        return chance.choice((None, True, -1.5, "", "AAA", "?", "\U0001f600" * 500, *NUMBERS, 10**400))

    def _b64(self, number: int) -> dict[str, str]:
        return {"b64": base64.b64encode(self._images[number]).decode()}

    def _predict(self, document: dict[str, Any]) -> bytes:
        body = json.dumps({"signature_name": signatures.IMAGES, **document})
        return f"POST {_MODEL}:predict\n{body}".encode()

    def _send(self, data: bytes) -> str:
        line, _, body = data.partition(b"\n")
        method, _, path = line.decode("latin-1").partition(" ")
        assert self._server.rest_address
        connection = http.client.HTTPConnection(self._server.rest_address, timeout=60)
        try:
            connection.request(method, path, body if method == "POST" else None)
            response = connection.getresponse()
            content = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 200:
            return "answered"
        assert response.status in _REFUSALS, f"{response.status}: {content}"
        check_message(content["error"])
        return f"refused: {response.status}"
