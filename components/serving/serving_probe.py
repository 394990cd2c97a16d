"""Serves a SavedModel and sends it real and hostile requests, in a process of its own without TFX and Beam.

    python -m components.serving.serving_probe MODEL_DIR EXAMPLES_DIR JOURNAL SETTINGS

SETTINGS is the JSON of `ServingSettings`. JOURNAL gets one JSON object per line, written immediately, so that it shows
in which check a crash or a hang happened: {"started": name}, then {"check": {...}}, a
`core.artifacts.serving_check.Check`; between them {"measured": {...}}, fields of its `ServingReport`; and at the end
{"finished": true}, or {"not_judged": why} if the machine or damaged files prevented a judgment. The exit code is 0
whatever the model does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from components.serving.model_client import RemoteModel
from components.serving.model_server import ModelServer
from components.serving.model_versions import ModelVersions
from components.serving.served_model import first_line
from components.serving.serving_checks import ServingChecks, UnfitError, files_are_sound, peak_rss_mb
from core import signatures, tfrecords
from core.artifacts.exported_model import class_names
from core.artifacts.model_limits import model_limits
from core.checksums import DamagedModelError
from core.errors import cause_of
from core.examples import IMAGE
from core.settings.converter import from_json
from core.settings.serving import ServingSettings

_MOST_IMAGES = 4
_FEWEST_REQUESTS, _MOST_REQUESTS = 10, 100  # that latency is measured with
_LATENCY_SECONDS = 1.0
_JUDGED_LATENCY_SECONDS = 3.0  # where a setting limits it, its 99th percentile is to be more than the slowest of 10
_NAME = "model"


class NotJudgedError(Exception):
    """The failure says nothing about the model: the machine failed, or files have changed since they were written."""


class _HangsError(Exception):
    """The model answered a request too late twice, so other checks would find nothing more."""


class Journal:
    """Writes the journal line by line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, **record: Any) -> None:
        """Adds a record and passes it to the operating system immediately."""
        print(json.dumps(record), file=self._file, flush=True)

    def check(self, name: str, action: Callable[..., str | None], *arguments: Any) -> bool:
        """Runs `action`, which returns a detail worth reading or raises; returns whether it passed.

        Raises:
            NotJudgedError: the action failed for a reason that is not the model's.
        """
        self.write(started=name)
        start = time.perf_counter()
        passed = hangs = False
        try:
            try:
                detail, passed = action(*arguments) or "", True
            except tf.errors.DeadlineExceededError:  # once, a process that was stopped for a while misses it too
                detail, passed = action(*arguments) or "", True
        except UnfitError as finding:
            detail = str(finding)
        except NotJudgedError:
            raise
        except DamagedModelError as error:
            raise NotJudgedError(f"the model's files have changed since it was exported: {error}") from error
        except Exception as error:  # whatever a broken model makes TensorFlow raise is the finding
            cause = cause_of(error)
            if cause.blame == "machine":
                raise NotJudgedError(cause.message) from error
            detail = f"{type(error).__name__}: {first_line(error)}"
            hangs = isinstance(error, tf.errors.DeadlineExceededError)
        seconds = round(time.perf_counter() - start, 3)
        self.write(check={"name": name, "passed": passed, "detail": detail, "seconds": seconds})
        if hangs:
            raise _HangsError
        return passed


def probe(model_dir: str, images: Sequence[bytes], journal: Journal, settings: ServingSettings) -> None:
    """Runs all checks on the SavedModel in a folder, with real encoded images that each fit in one request.

    Raises:
        NotJudgedError: as in `Journal.check`.
    """
    limits = settings.server
    with contextlib.ExitStack() as running:
        clients: list[RemoteModel] = []

        def load() -> None:
            start = time.perf_counter()
            versions = ModelVersions(lambda: {1: model_dir})
            running.callback(versions.close)
            versions.poll()
            (version,) = versions.states()
            if version.error:
                raise UnfitError(version.error)
            journal.write(measured={"load_seconds": round(time.perf_counter() - start, 3)})
            server = ModelServer(_NAME, versions, limits)
            running.callback(server.stop)
            clients.append(running.enter_context(RemoteModel(server.address, _NAME, limits.request_seconds)))

        if journal.check("files are sound", files_are_sound, model_dir) and journal.check("load", load):
            checks = ServingChecks(clients[0], images, limits, model_limits(model_dir))
            seconds = _JUDGED_LATENCY_SECONDS if settings.limits_latency else _LATENCY_SECONDS
            with contextlib.suppress(_HangsError):
                _check_served(checks, class_names(model_dir), seconds, journal)


def _check_served(checks: ServingChecks, names: Sequence[str], seconds: float, journal: Journal) -> None:
    if not (journal.check("status", checks.is_available) and journal.check("signatures", checks.has_signatures)):
        return
    journal.check("class names", checks.class_names_fit, names)
    journal.check("single requests", checks.predicts_single_images)
    journal.check("signatures agree", checks.signatures_agree)
    journal.check("requests at the same time", checks.serves_concurrent_requests)
    journal.check("full batch", checks.predicts_full_batch)
    journal.check("empty batch", checks.takes_empty_batch)
    journal.write(measured={"peak_rss_mb": peak_rss_mb()})
    for signature in (signatures.IMAGES, signatures.EXAMPLES):
        journal.check(f"bad images in {signature}", checks.reports_bad_images, signature)
    for name, *request in checks.bad_requests():
        journal.check(name, checks.refuses_bad_request, *request)
    journal.check("memory of a large image", checks.bounds_memory)
    journal.check("good requests after bad ones", checks.still_predicts)
    journal.check("latency", lambda: journal.write(measured={"latency_ms": _latency(checks, seconds)}))


def _latency(checks: ServingChecks, seconds: float) -> dict[str, float]:
    """Milliseconds from request to response, for one image; warm, one request at a time, over gRPC.

    It takes `seconds`, or as long as the fewest requests take. Percentiles use the nearest rank: of fewer than 100
    requests, the 99th is the slowest. (The check of a full batch reports how long that takes.)
    """
    times: list[float] = []
    while len(times) < _FEWEST_REQUESTS or (len(times) < _MOST_REQUESTS and sum(times) < seconds * 1000):
        start = time.perf_counter()
        checks.model.request(signatures.IMAGES, checks.images[:1])
        times.append((time.perf_counter() - start) * 1000)
    median, p95, p99 = np.percentile(times, [50, 95, 99], method="higher").round(2).tolist()
    return {"median": median, "p95": p95, "p99": p99, "requests": len(times)}


def main(model_dir: str, examples_dir: str, journal_file: str, settings: str) -> None:
    """The command line's arguments, in order."""
    with contextlib.suppress(OSError):  # where memory runs out, this process is to be killed and not the run that waits
        Path("/proc/self/oom_score_adj").write_text("1000")
    serving = from_json(settings, ServingSettings)
    limits = serving.server
    with Path(journal_file).open("w", encoding="utf-8") as file:
        journal = Journal(file)
        journal.write(measured={"tensorflow": tf.__version__})
        images: list[bytes] = []

        def read() -> str:
            encoded = (tfrecords.values(record)[IMAGE] for record in tfrecords.read(f"{examples_dir}/*"))
            try:
                images.extend(itertools.islice((e for e in encoded if len(e) <= limits.image_bytes), _MOST_IMAGES))
            except (tf.errors.OpError, KeyError, DecodeError) as error:
                raise NotJudgedError(f"the examples in {examples_dir} cannot be read: {first_line(error)}") from error
            if not images:
                raise UnfitError(
                    f"there are no examples in {examples_dir} whose images fit in one request: "
                    f"serving.server.max_message_mb is {limits.max_message_mb}"
                )
            return f"images: {len(images)}"

        try:
            if journal.check("test images", read):
                probe(model_dir, images, journal, serving)
            journal.write(finished=True)
        except NotJudgedError as error:
            journal.write(not_judged=str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
