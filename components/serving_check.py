"""ServingCheck: a fresh process serves the SavedModel and is sent real and hostile requests; what serves is blessed.

They are sent over gRPC, as any client of TensorFlow Serving sends them. TFX's InfraValidator asks the same of
TensorFlow Serving in Docker or Kubernetes and cannot bless without them. The standard InfraBlessing that this component
emits is what Pusher reads.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import path_utils

from components.serving import serving_probe
from core import progress
from core.settings.server import DEFAULT_LIMITS, ServerLimits

REPORT_FILE = "serving_check.json"

# As in tfx/components/infra_validator/executor.py, which takes 16 s to import.
BLESSED_FILE, NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
BLESSED, REASON = "blessed", "reason"

_PROBE = (sys.executable, "-m", serving_probe.__name__)
_PROJECT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is demanded of the model beyond answering correctly; None demands nothing.

    Attributes:
        max_median_latency_ms: half of the requests with one image are answered in so many milliseconds.
        max_latency_ms: 99 % of the requests with one image are answered in so many milliseconds.
        max_load_seconds: from the start of loading to the first request.
        max_memory_mb: peak resident memory of the process after all good requests, TensorFlow included.
    """

    max_median_latency_ms: float | None = None
    max_latency_ms: float | None = None
    max_load_seconds: float | None = None
    max_memory_mb: float | None = None


@component
def ServingCheck(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    split: Parameter[str] = "test",
    max_median_latency_ms: Parameter[float] = None,
    max_latency_ms: Parameter[float] = None,
    max_load_seconds: Parameter[float] = None,
    max_memory_mb: Parameter[float] = None,
    timeout_seconds: Parameter[int] = 300,
    server: Parameter[str] = "{}",
    code: Parameter[str] = "",
) -> None:
    """Blesses the model if it serves; a model that crashes, hangs or fails a check is not blessed, and the run goes on.

    Args:
        model: the exported model.
        examples: raw examples; a few of their images are sent.
        blessing: gets the property `blessed` (1 or 0), TFX's marker file, the property `reason` if not blessed, and
            `serving_check.json`: every check and its result, latency in ms, seconds to load and peak memory in MB.
        split: the split of `examples` whose images are sent.
        max_median_latency_ms: see `Limits`.
        max_latency_ms: see `Limits`.
        max_load_seconds: see `Limits`.
        max_memory_mb: see `Limits`.
        timeout_seconds: after this long the process counts as hung.
        server: JSON: `serving.server` of the settings, the bounds of the server that it is asked through.
        code: hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    progress.report(0, 1, "models", "asking a fresh process to serve it")
    report = check(
        path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)),
        artifact_utils.get_split_uri([examples], split),
        Limits(max_median_latency_ms, max_latency_ms, max_load_seconds, max_memory_mb),
        timeout_seconds,
        ServerLimits.from_json(server),
        _PROBE,
    )
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{REPORT_FILE}", "w") as file:
        file.write(json.dumps(report, indent=2) + "\n")
    with fileio.open(f"{blessing.uri}/{BLESSED_FILE if report[BLESSED] else NOT_BLESSED_FILE}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(BLESSED, int(report[BLESSED]))
    if not report[BLESSED]:
        blessing.set_string_custom_property(REASON, report[REASON])
    progress.report(1, 1, "models", "serves" if report[BLESSED] else report[REASON])


def check(
    model_dir: str,
    examples_dir: str,
    limits: Limits = Limits(),
    timeout_seconds: float = 300,
    server: ServerLimits = DEFAULT_LIMITS,
    command: Sequence[str] = _PROBE,
) -> dict[str, Any]:
    """Runs the probe on a SavedModel and judges what it found.

    Args:
        model_dir: the SavedModel's folder.
        examples_dir: a folder of TFRecord files of raw tf.Examples.
        limits: bounds on what the probe measures.
        timeout_seconds: after this long the process is killed.
        server: bounds of the server that the model is asked through.
        command: starts the probe; it is given the two folders, the file to report to and the server's bounds.

    Returns:
        `blessed`: bool; `reason`: the first failures in words, or None; `checks`: a list of `name`, `passed`, `detail`
        and, of the probe's own, `seconds`; `process_seconds`; and as far as the probe came `latency_ms` by batch size,
        `load_seconds`, `peak_rss_mb` and `tensorflow`, its version; `output`, the end of what it printed, if it died.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "report.jsonl"
        ending, output = _run(
            [*command, model_dir, examples_dir, str(journal), "--server", server.to_json()], timeout_seconds
        )
        text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    seconds = time.perf_counter() - start
    records = [json.loads(line) for line in text.split("\n")[:-1]]  # a killed process may leave half a line
    checks = [
        {"name": r["check"], "passed": r["passed"], "detail": r["detail"], "seconds": r["seconds"]}
        for r in records
        if "check" in r
    ]
    measured: dict[str, Any] = {}
    for record in records:
        measured |= record.get("measured", {})
    if not any("finished" in r for r in records):
        started = [r["started"] for r in records if "started" in r]
        during = f" during the check {started[-1]!r}" if len(started) > len(checks) else ""
        checks.append({"name": "process", "passed": False, "detail": f"the serving process {ending}{during}"})
        measured["output"] = output
    checks.extend(_within(limits, measured))
    failed = [f"{c['name']}: {c['detail']}" for c in checks if not c["passed"]]
    return {
        BLESSED: not failed,
        REASON: "; ".join(failed[:3]) + (f"; and {len(failed) - 3} more" if len(failed) > 3 else "") or None,
        "checks": checks,
        "process_seconds": round(seconds, 1),
        **measured,
    }


def _run(command: Sequence[str], timeout_seconds: float) -> tuple[str, str]:
    """How the process ended, in words, and the last of its output."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",  # this process may hold the GPU's memory
    }
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return f"did not finish in {timeout_seconds:g} s and was killed", _tail(error.output)
    if done.returncode < 0:
        killer = signal.Signals(-done.returncode)
        likely = " (most likely: out of memory)" if killer is signal.SIGKILL else ""
        return f"was killed by {killer.name}{likely}", _tail(done.stdout)
    return f"ended with exit code {done.returncode}", _tail(done.stdout)


def _tail(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", errors="replace")[-4000:]


def _within(limits: Limits, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """A check for each limit that is set; what was not measured fails it."""
    latency = measured.get("latency_ms", {}).get("1", {})
    values = {
        "max_median_latency_ms": (latency.get("median"), "ms", "one image, median"),
        "max_latency_ms": (latency.get("p99"), "ms", "one image, 99th percentile"),
        "max_load_seconds": (measured.get("load_seconds"), "s", "to load"),
        "max_memory_mb": (measured.get("peak_rss_mb"), "MB", "at most in memory"),
    }
    checks = []
    for name, (value, unit, what) in values.items():
        limit = getattr(limits, name)
        if limit is not None:
            found = "not measured" if value is None else f"{value:g} {unit} {what}"
            passed = value is not None and value <= limit
            checks.append({"name": name, "passed": passed, "detail": f"{found}; {limit:g} {unit} allowed"})
    return checks
