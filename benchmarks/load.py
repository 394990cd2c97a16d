"""Clients of a model server that ask again as soon as they have their answer: a table, and a line of JSON.

    python -m benchmarks.load MODEL PHOTOS --size 299

The model is served twice by `python -m pipeline serve`: as it is, with requests joined into batches, and with each
request computed alone. Both are asked over gRPC and over REST, one picture a request, by 1, 4, 8 and 16 clients; last
comes the base alone, Keras's InceptionV3 to the pooled mixed10, on one picture that is decoded and resized already.
All take turns, so that they see the same machine; the clients share it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.bare import network, read
from benchmarks.pictures import files
from components.serving.model_client import RemoteModel
from core import signatures

CLIENTS = (1, 4, 8, 16)
NAME = "load"

Ask = Callable[[bytes], None]


@contextlib.contextmanager
def served(model: Path, joined: int) -> Iterator[tuple[str, str]]:
    """The addresses of gRPC and of REST."""
    command = [sys.executable, "-m", "pipeline", "serve", "--model", str(model), "--name", NAME, "--port", "0"]
    command += ["--rest-port", "0", "--set", f"serving.server.joined={joined}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = {}
            for line in server.stdout or ():
                said[line.split(" ")[0].rstrip(":")] = line
                if "REST" in said:
                    break
            else:
                sys.exit("the server did not start")
            grpc_address = said["listening"].removeprefix("listening on ").split(": ")[0]
            yield grpc_address, said["REST"].split("http://")[1].split("/")[0]
        finally:
            server.terminate()


@contextlib.contextmanager
def over_grpc(address: str) -> Iterator[Ask]:
    """Sends a picture."""
    with RemoteModel(address, NAME) as model:
        yield lambda picture: _checked(model.request(signatures.IMAGES, [picture])["error"][0])


@contextlib.contextmanager
def over_rest(address: str) -> Iterator[Ask]:
    """Sends a picture."""
    with contextlib.closing(http.client.HTTPConnection(address)) as connection:

        def ask(picture: bytes) -> None:
            instance = {"b64": base64.b64encode(picture).decode()}
            body = json.dumps({"signature_name": signatures.IMAGES, "instances": [instance]})
            connection.request("POST", f"/v1/models/{NAME}:predict", body)
            _checked(json.loads(connection.getresponse().read())["predictions"][0]["error"])

        yield ask


def _checked(error: Any) -> None:
    if error:
        sys.exit(f"the model refuses a picture: {error}")


def load(connect: Callable[[], Any], clients: int, pictures: list[bytes], seconds: float) -> list[float]:
    """The seconds of each request of so many clients."""
    times: list[float] = []
    ready, end = threading.Barrier(clients), 0.0

    def ask_again_and_again(first: int) -> None:
        nonlocal end
        with connect() as ask:
            ask(pictures[first % len(pictures)])
            ready.wait()
            end = time.monotonic() + seconds
            number = first
            while (began := time.monotonic()) < end:
                ask(pictures[number % len(pictures)])
                times.append(time.monotonic() - began)
                number += 1

    threads = [threading.Thread(target=ask_again_and_again, args=[n]) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def row(what: str, times: list[float], seconds: float) -> dict[str, Any]:
    """What is told of requests: milliseconds by the nearest rank, and how many a second."""
    median, p95, p99 = (np.percentile(times, [50, 95, 99], method="higher") * 1000).round(1).tolist()
    return {"what": what, "median_ms": median, "p95_ms": p95, "p99_ms": p99, "images_s": round(len(times) / seconds, 1)}


def measure(model: Path, photos: Path, size: int, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """The rows of all cases; `seconds` each, in as many parts as there are rounds."""
    pictures = [path.read_bytes() for path in files(photos)[:64]]
    base = tf.function(network(size))
    pixels = tf.stack([read(str(files(photos)[0]), size)])
    found: dict[str, list[float]] = {}
    with served(model, 16) as joined, served(model, 1) as alone:
        for _ in range(rounds):
            for clients in CLIENTS:
                for name, addresses in (("joined", joined), ("alone", alone)):
                    for protocol, connect, address in zip(
                        ("gRPC", "REST"), (over_grpc, over_rest), addresses, strict=True
                    ):
                        times = load(lambda c=connect, a=address: c(a), clients, pictures, seconds / rounds)
                        found.setdefault(f"{protocol}, {name}, {clients} clients", []).extend(times)
            base(pixels)
            end = time.monotonic() + seconds / rounds
            while (began := time.monotonic()) < end:
                base(pixels).numpy()
                found.setdefault("the base alone", []).append(time.monotonic() - began)
    return [row(what, times, seconds) for what, times in found.items()]


def main() -> None:
    """Serves the model, asks, and stops it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--seconds", type=float, default=15, help="of each case")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = measure(options.model, options.photos, options.size, options.seconds, options.rounds)
    for found in rows:
        print("{what:28} {median_ms:8} ms {p95_ms:8} {p99_ms:8} {images_s:8} images/s".format(**found), file=sys.stderr)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
