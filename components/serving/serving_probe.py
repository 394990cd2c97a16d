"""Loads a SavedModel as a model server would and sends it real and hostile requests, in a process of its own.

    python -m components.serving.serving_probe MODEL_DIR EXAMPLES_DIR REPORT [--server LIMITS]

REPORT gets one JSON object a line, each written as soon as it is known, so that a crash or a hang leaves word of the
check it happened in: {"started": name}, then {"check": name, "passed": bool, "detail": text, "seconds": float}; between
them {"measured": {...}}; and at the end {"finished": true}. The exit code is 0 whatever the model does. The process
is a server, asked over gRPC by a client in a thread of its own. It has neither TFX nor Beam nor their libraries: our
modules import TensorFlow, NumPy, gRPC and TensorFlow Serving's messages, and whatever else is there, TensorFlow itself
asks for (its Keras takes pandas, SciPy and Pillow where it finds them).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tensorflow as tf

from components.serving import serving_checks
from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions, single
from components.serving.served_model import AnsweringModel, class_names, first_line
from core import image_limits, signatures, tfrecords
from core.examples import IMAGE
from core.image_limits import ImageLimits
from core.settings.server import DEFAULT_LIMITS, ServerLimits

IMAGES = 4
"""Real images that are sent, at most."""

LATENCY_BATCHES = {1: (20, 100), 8: (5, 25)}
"""Images a request, for the measurement of latency: how many requests at least and at most."""

_LATENCY_SECONDS = 3.0
_WARM_UP = 3  # requests of each size that are not counted
_NAME = "model"


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


def probe(model_dir: str, images: Sequence[bytes], journal: Journal, limits: ServerLimits = DEFAULT_LIMITS) -> None:
    """Runs all checks on one model.

    Args:
        model_dir: a SavedModel's folder.
        images: real encoded images, at least one; each fits in one request.
        journal: gets a record for every check and measurement.
        limits: of the server.
    """
    with contextlib.ExitStack() as running:
        clients: list[RemoteModel] = []

        def load() -> None:
            start = time.perf_counter()
            versions = ModelVersions(single(model_dir))
            running.callback(versions.close)
            versions.poll()
            (version,) = versions.states()
            if version.error:
                raise serving_checks.UnfitError(version.error)
            journal.write(measured={"load_seconds": round(time.perf_counter() - start, 3)})
            server = ModelServer(_NAME, versions, limits=limits)
            running.callback(server.stop)
            clients.append(running.enter_context(RemoteModel(server.address, _NAME, limits.request_seconds)))

        sound = journal.check("files are sound", serving_checks.files_are_sound, model_dir)
        if sound and journal.check("load", load):
            _ask(clients[0], class_names(model_dir), images, limits, image_limits.read(model_dir), journal)


def _ask(
    model: RemoteModel,
    names: Sequence[str],
    images: Sequence[bytes],
    limits: ServerLimits,
    pictures: ImageLimits,
    journal: Journal,
) -> None:
    """Runs all checks on a model that is served."""
    if not (
        journal.check("status", serving_checks.is_available, model)
        and journal.check("signatures", serving_checks.has_signatures, model)
    ):
        return
    journal.check("class names", serving_checks.class_names_fit, model, names, images[0])
    journal.check("single requests", serving_checks.answers_single_requests, model, images)
    pair = serving_checks.fitting(images, min(2, len(images)), limits)
    journal.check("alone and in a batch agree", serving_checks.batch_agrees, model, images, limits)
    journal.check("signatures agree", serving_checks.signatures_agree, model, pair)
    journal.check("requests at the same time", serving_checks.bears_requests_at_once, model, images, limits)
    journal.check("full batch", serving_checks.answers_full_batch, model, images, limits)
    journal.check("empty batch", serving_checks.bears_empty_batch, model)
    journal.check("latency", lambda: journal.write(measured={"latency_ms": _latency(model, images, limits)}))
    journal.write(measured={"peak_rss_mb": serving_checks.peak_rss_mb()})
    good = serving_checks.fit_three(images, limits)
    for name, picture in serving_checks.bad_pictures(pictures):
        for signature in (signatures.IMAGES, signatures.EXAMPLES):
            told = serving_checks.tells_a_bad_picture
            journal.check(f"{name} in {signature}", told, model, signature, picture, good)
    journal.check("no tf.Example", serving_checks.refuses_what_is_no_example, model)
    journal.check("too many images", serving_checks.refuses_too_many_images, model, limits.max_batch)
    journal.check("too large a request", serving_checks.refuses_too_large_a_request, model, limits)
    journal.check("memory of a large picture", serving_checks.bounds_memory, model, pictures)
    journal.check("good requests after bad ones", serving_checks.answers_single_requests, model, images[:1])


def read_images(examples_dir: str, most: int, most_bytes: int) -> list[bytes]:
    """The first encoded images of at most so many bytes, in a folder of TFRecord files (`.gz`: gzip) of tf.Examples."""
    images = (tfrecords.values(record)[IMAGE] for record in tfrecords.read(f"{examples_dir}/*"))
    return list(itertools.islice((image for image in images if len(image) <= most_bytes), most))


def _latency(model: AnsweringModel, images: Sequence[bytes], limits: ServerLimits) -> dict[str, dict[str, float]]:
    """Milliseconds from request to answer, by batch size; warm, one request at a time, through gRPC.

    A batch that does not fit in one request is as large as fits, and its results are found under that size. Percentiles
    are of the nearest rank: of fewer than 100 requests the 99th is the slowest.
    """
    result = {}
    for size, (fewest, most) in LATENCY_BATCHES.items():
        batch = serving_checks.fitting(images, min(size, limits.max_batch), limits)
        for _ in range(_WARM_UP):
            model.request(signatures.IMAGES, batch)
        times: list[float] = []
        while len(times) < fewest or (len(times) < most and sum(times) < _LATENCY_SECONDS * 1000):
            start = time.perf_counter()
            model.request(signatures.IMAGES, batch)
            times.append((time.perf_counter() - start) * 1000)
        median, p95, p99 = np.percentile(times, [50, 95, 99], method="higher").round(2).tolist()
        result[str(len(batch))] = {"median": median, "p95": p95, "p99": p99, "requests": len(times)}
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `arguments` are the process's if not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", help="folder with saved_model.pb")
    parser.add_argument("examples_dir", help="folder of TFRecord files of raw tf.Examples")
    parser.add_argument("report", type=Path, help="file to write")
    parser.add_argument(
        "--server", type=ServerLimits.from_json, default=DEFAULT_LIMITS, metavar="LIMITS", help="JSON: serving.server"
    )
    given = parser.parse_args(arguments)
    with given.report.open("w", encoding="utf-8") as file:
        journal = Journal(file)
        journal.write(measured={"tensorflow": tf.__version__})
        images: list[bytes] = []

        def read() -> str:
            images.extend(read_images(given.examples_dir, IMAGES, given.server.image_bytes))
            if not images:
                raise serving_checks.UnfitError(
                    f"there are no examples in {given.examples_dir} whose pictures fit in one request: "
                    f"serving.server.max_message_mb is {given.server.max_message_mb}"
                )
            return f"images: {len(images)}"

        if journal.check("test images", read):
            probe(given.model_dir, images, journal, given.server)
        journal.write(finished=True)


if __name__ == "__main__":
    main()
