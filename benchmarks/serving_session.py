"""What TensorFlow's graph optimiser costs a served model, in seconds to the first answer, and saves of all others.

    .venv/bin/python benchmarks/serving_session.py MODEL IMAGE

MODEL is a pushed version's folder. Both ways take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from core import signatures

ROUNDS = 5
BATCHES = {1: 20, 8: 5}
"""Images a request: requests a round."""


def measure(model: str, image: bytes, optimised: bool) -> dict[str, float]:
    """What one freshly loaded model takes."""
    options = tf.compat.v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = not optimised
    with tf.Graph().as_default(), tf.compat.v1.Session(config=options) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, [tf.saved_model.SERVING], model)
        signature = loaded.signature_def[signatures.IMAGES]
        (given,) = signature.inputs.values()
        wanted = {name: output.name for name, output in signature.outputs.items()}

        def ask(images: int) -> float:
            start = time.perf_counter()
            session.run(wanted, {given.name: np.array([image] * images, dtype=object)})
            return time.perf_counter() - start

        found = {"first answer, s": ask(1)}
        for size, requests in BATCHES.items():
            ask(size)
            found[f"batch of {size}, ms"] = 1000 * statistics.median(ask(size) for _ in range(requests))
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `arguments` are the process's if not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder with saved_model.pb")
    parser.add_argument("image", type=Path)
    given = parser.parse_args(arguments)
    image = given.image.read_bytes()
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for number in range(ROUNDS):
        for optimised in (True, False) if number % 2 else (False, True):
            found[optimised].append(measure(given.model, image, optimised))
    print(f"{'':20}{'optimised':>22}{'as it is':>22}   (median of {ROUNDS}, least and most)")
    for name in found[True][0]:
        columns = []
        for optimised in (True, False):
            values = [round_[name] for round_ in found[optimised]]
            columns.append(f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        print(f"{name:20}{columns[0]:>22}{columns[1]:>22}")


if __name__ == "__main__":
    main()
