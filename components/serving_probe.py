"""Loads a SavedModel as a model server would and sends it real and hostile requests, in a process of its own.

    python -m components.serving_probe MODEL_DIR EXAMPLES_DIR REPORT

REPORT gets one JSON object a line, each written as soon as it is known, so that a crash or a hang leaves word of the
check it happened in: {"started": name}, then {"check": name, "passed": bool, "detail": text, "seconds": float}; between
them {"measured": {...}}; and at the end {"finished": true}. The exit code is 0 whatever the model does. The process
stands for a server: of what is installed, it imports only TensorFlow and NumPy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tensorflow as tf

from components import serving_checks
from components.served_model import ServedModel, first_line
from trainer import records, signatures

IMAGES = 4
"""Real images that are sent, at most."""

LATENCY_BATCHES = (1, 8)
"""Images a request, for the measurement of latency."""

_LATENCY_SECONDS = 0.7
_LATENCY_REQUESTS = (2, 50)


class Journal:
    """Writes the report line by line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, **record: Any) -> None:
        """Adds a record and hands it to the operating system at once."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def check(self, name: str, action: Callable[..., str | None], *arguments: Any) -> bool:
        """Runs `action`, which returns a detail worth telling or raises; returns whether it passed."""
        self.write(started=name)
        start = time.perf_counter()
        try:
            detail, passed = action(*arguments) or "", True
        except serving_checks.UnfitError as finding:
            detail, passed = str(finding), False
        except Exception as error:  # whatever a broken model makes TensorFlow raise is the finding
            detail, passed = f"{type(error).__name__}: {first_line(error)}", False
        self.write(check=name, passed=passed, detail=detail, seconds=round(time.perf_counter() - start, 3))
        return passed


def probe(model_dir: str, images: Sequence[bytes], journal: Journal) -> None:
    """Runs all checks on one model.

    Args:
        model_dir: a SavedModel's folder.
        images: real encoded images, at least one.
        journal: gets a record for every check and measurement.
    """
    loaded: list[ServedModel] = []

    def load() -> None:
        start = time.perf_counter()
        loaded.append(ServedModel(model_dir))
        journal.write(measured={"load_seconds": round(time.perf_counter() - start, 3)})

    if not (
        journal.check("files are sound", serving_checks.files_are_sound, model_dir) and journal.check("load", load)
    ):
        return
    with loaded[0] as model:
        if not journal.check("signatures", serving_checks.has_signatures, model):
            return
        journal.check("class names", serving_checks.class_names_fit, model, model.class_names(), images[0])
        journal.check("single requests", serving_checks.answers_single_requests, model, images)
        journal.check("alone and in a batch agree", serving_checks.batch_agrees, model, images)
        journal.check("both signatures agree", serving_checks.signatures_agree, model, images[:2])
        journal.check("empty batch", serving_checks.bears_empty_batch, model)
        journal.check("latency", lambda: journal.write(measured={"latency_ms": _latency(model, images)}))
        journal.write(measured={"peak_rss_mb": serving_checks.peak_rss_mb()})
        for name, picture in serving_checks.bad_pictures():
            for signature in (signatures.IMAGES, signatures.EXAMPLES):
                told = serving_checks.tells_a_bad_picture
                journal.check(f"{name} in {signature}", told, model, signature, picture, images)
        journal.check("no tf.Example", serving_checks.refuses_what_is_no_example, model)
        journal.check("memory of a large picture", serving_checks.bounds_memory, model)
        journal.check("good requests after hostile ones", serving_checks.answers_single_requests, model, images[:1])


def read_images(examples_dir: str, most: int) -> list[bytes]:
    """The first encoded images of a folder of TFRecord files of tf.Examples (`.gz`: gzip)."""
    return [records.values(record)[signatures.IMAGE_FEATURE] for record in records.read(f"{examples_dir}/*", most=most)]


def _latency(model: ServedModel, images: Sequence[bytes]) -> dict[str, dict[str, float]]:
    """Milliseconds from request to answer, by batch size; warm, one request at a time."""
    result = {}
    for size in LATENCY_BATCHES:
        batch = [images[i % len(images)] for i in range(size)]
        model.request(signatures.IMAGES, batch)
        times: list[float] = []
        fewest, most = _LATENCY_REQUESTS
        while len(times) < fewest or (len(times) < most and sum(times) < _LATENCY_SECONDS * 1000):
            start = time.perf_counter()
            model.request(signatures.IMAGES, batch)
            times.append((time.perf_counter() - start) * 1000)
        result[str(size)] = {
            "median": round(statistics.median(times), 2),
            "p95": round(float(np.percentile(times, 95)), 2),
            "requests": len(times),
        }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `arguments` are the process's if not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", help="folder with saved_model.pb")
    parser.add_argument("examples_dir", help="folder of TFRecord files of raw tf.Examples")
    parser.add_argument("report", type=Path, help="file to write")
    given = parser.parse_args(arguments)
    with given.report.open("w", encoding="utf-8") as file:
        journal = Journal(file)
        journal.write(measured={"tensorflow": tf.__version__})
        images: list[bytes] = []

        def read() -> str:
            images.extend(read_images(given.examples_dir, IMAGES))
            if not images:
                raise serving_checks.UnfitError(f"there are no examples in {given.examples_dir}")
            return f"images: {len(images)}"

        if journal.check("test images", read):
            probe(given.model_dir, images, journal)
        journal.write(finished=True)


if __name__ == "__main__":
    main()
