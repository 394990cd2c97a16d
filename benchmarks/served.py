"""One request to a served model, beside its base alone: a process of its own, which prints a line of JSON.

    python -m benchmarks.served MODEL PHOTOS --size 299

The model is served by `python -m pipeline serve` and asked over gRPC: encoded pictures in, probabilities out. The base
is Keras's InceptionV3 to the pooled mixed10 as a function of TensorFlow; it gets pixels that are decoded and resized
already. Requests and passes take turns, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import tensorflow as tf

from benchmarks.bare import network, read
from benchmarks.pictures import files
from components.serving.model_client import RemoteModel
from core import signatures

PASSES = {1: 40, 32: 6}  # of a batch: how many are measured; two more come first


def seconds(run: Callable[[], object]) -> float:
    """That one call takes."""
    began = time.monotonic()
    run()
    return time.monotonic() - began


def measure(address: str, server: psutil.Process, photos: list[Path], size: int) -> list[dict[str, float | str]]:
    """The median seconds of a request and of a pass, and their mean CPU seconds, for each batch size."""
    base, here, rows = tf.function(network(size)), psutil.Process(), []
    with RemoteModel(address, "bench") as model:
        for batch, passes in PASSES.items():
            chosen = [photos[i % len(photos)] for i in range(batch)]
            encoded = [path.read_bytes() for path in chosen]
            pixels = tf.stack([read(str(path), size) for path in chosen])
            runs = {
                "served": (server, lambda e=encoded: model.request(signatures.IMAGES, e)),
                "network": (here, lambda p=pixels: base(p).numpy()),
            }
            wall: dict[str, list[float]] = {name: [] for name in runs}
            cpu = dict.fromkeys(runs, 0.0)
            for number in range(-2, passes):
                for name, (process, run) in runs.items():
                    before = sum(process.cpu_times()[:2])
                    took = seconds(run)
                    if number >= 0:
                        wall[name].append(took)
                        cpu[name] += (sum(process.cpu_times()[:2]) - before) / passes
            rows += [
                {"what": f"{name} {batch}", "wall": statistics.median(wall[name]), "cpu": cpu[name]} for name in runs
            ]
    return rows


def main() -> None:
    """Serves the model, measures, and stops it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=299)
    options = parser.parse_args()
    command = [sys.executable, "-m", "pipeline", "serve", "--model", str(options.model), "--name", "bench"]
    with subprocess.Popen([*command, "--port", "0", "--rest-port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            line = next((line for line in server.stdout or () if line.startswith("listening on ")), "")
            if not line:
                sys.exit("the server did not start")
            address = line.removeprefix("listening on ").split(": ")[0]
            print(json.dumps(measure(address, psutil.Process(server.pid), files(options.photos), options.size)))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
