"""ServingCheck: a fresh process serves the SavedModel and is sent real and hostile requests; what serves is blessed.

They are sent over gRPC, as any client of TensorFlow Serving sends them. TFX's InfraValidator needs TensorFlow Serving
in Docker or Kubernetes. The standard InfraBlessing that this component emits is what Pusher reads.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import io_utils

from components.serving import serving_probe
from core import progress, storage
from core.artifacts import exported_model, serving_check
from core.artifacts.serving_check import ServingReport
from core.errors import MachineError, machine_words
from core.processes import ending_with_this
from core.settings import converter
from core.settings.serving import ServingSettings

PROBE = (sys.executable, "-m", serving_probe.__name__)
_PROJECT = Path(__file__).resolve().parent.parent
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)  # what code does to itself
_NOT_JUDGED = "the model was not judged, and the next run judges it"


@component
def ServingCheck(  # noqa: N802 - a component is a class to its users
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    settings: Parameter[str],
    code: Parameter[str] = "",
) -> None:
    """Blesses the model if it serves. One that crashes or fails a check is not blessed, and the run continues.

    Args:
        examples: raw examples; a few images of their test split are sent.
        blessing: as in `core.artifacts.serving_check`.
        settings: JSON of `ServingSettings`.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        MachineError: the process was killed, did not finish in time or could not work: the model was not judged, and
            the next run judges it (docs/serving.md).
    """
    del code
    progress.report(0, 1, "models", "serving it in a fresh process")
    report = check(
        exported_model.serving_dir(model.uri),
        artifact_utils.get_split_uri([examples], "test"),
        converter.from_json(settings, ServingSettings),
        PROBE,
    )
    marker = serving_check.BLESSED_FILE if report.blessed else serving_check.NOT_BLESSED_FILE
    io_utils.write_string_file(f"{blessing.uri}/{marker}", "")
    serving_check.SERVING_CHECK.write(blessing.uri, report)
    blessing.set_int_custom_property(serving_check.BLESSED, int(report.blessed))
    if report.reason:
        blessing.set_string_custom_property(serving_check.REASON, report.reason)
    progress.report(1, 1, "models", report.reason or "serves")


def check(model_dir: str, examples_dir: str, settings: ServingSettings, command: Sequence[str]) -> ServingReport:
    """Runs the probe, which `command` starts, on a SavedModel with raw tf.Examples, and judges what it found.

    Raises:
        MachineError: what happened to the process says nothing of the model.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, storage.local_copy(model_dir) as local:
        journal = Path(folder) / "journal.jsonl"
        arguments = (local, examples_dir, str(journal), converter.to_json(settings))
        code, output = _run([*command, *arguments], settings.timeout_seconds)
        text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    seconds = round(time.perf_counter() - start, 1)
    records = [json.loads(line) for line in text.split("\n")[:-1]]  # a killed process may leave half a line
    checks = [record["check"] for record in records if "check" in record]
    measured = dict(item for record in records for item in record.get("measured", {}).items())
    for record in records:
        if "not_judged" in record:
            raise MachineError(f"{record['not_judged']}; {_NOT_JUDGED}")
    if not any("finished" in record for record in records):
        started = [record["started"] for record in records if "started" in record]
        during = started[-1] if len(started) > len(checks) else None
        detail = _crash(code, during, output, settings.timeout_seconds)
        checks.append({"name": "process", "passed": False, "detail": detail})
        measured["output"] = output
    checks.extend(_within_limits(settings, measured))
    failed = [f"{c['name']}: {c['detail']}" for c in checks if not c["passed"]]
    reason = "; ".join(failed[:3]) + (f"; and {len(failed) - 3} more" if len(failed) > 3 else "")
    judged = {"blessed": not failed, "reason": reason or None, "checks": checks, "process_seconds": seconds}
    return msgspec.convert(measured | judged, ServingReport)


def _crash(code: int | None, during: str | None, output: str, timeout_seconds: float) -> str:
    """What a model did to the process that served it, in words, where it is the model's doing.

    Args:
        code: the process's exit code; None if it did not finish in time.
        during: the check that ran; None if none did.

    Raises:
        MachineError: it is not, or nobody can say.
    """
    check = f" during the check {during!r}" if during else ""
    if code is None:
        raise MachineError(
            f"the serving process did not finish in {timeout_seconds:g} s{check}, and was ended: the machine was too "
            f"busy, or the model hangs; {_NOT_JUDGED}. If this machine needs longer, raise serving.timeout_seconds"
        )
    if code == -signal.SIGKILL:
        raise MachineError(
            f"the serving process was killed{check}; most likely, memory ran out: give the machine or container more, "
            f"or lower data.max_megapixels or serving.server.max_batch. {_NOT_JUDGED.capitalize()}"
        )
    ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    said = machine_words(output)
    if -code in _CRASHES and during and not said:
        return f"the serving process {ending}{check}"
    last = output.strip().rpartition("\n")[2][:300]
    why = f": {said}" if said else f": {last}" if last else ""
    raise MachineError(f"the serving process {ending}{check}{why}; {_NOT_JUDGED}")


def _run(command: Sequence[str], timeout_seconds: float) -> tuple[int | None, str]:
    """The process's exit code, None if it did not finish in time, and the last of its output."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get("PYTHONPATH")])),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",  # this process may hold the GPU's memory
    }
    with tempfile.TemporaryFile() as printed:
        try:
            code: int | None = subprocess.run(
                ending_with_this(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        printed.seek(0)
        return code, printed.read().decode("utf-8", errors="replace")[-4000:]


def _within_limits(settings: ServingSettings, measured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A check for each limit that is set; what was not measured fails it."""
    latency = measured.get("latency_ms", {})
    for name, value, unit, what in (
        ("max_median_latency_ms", latency.get("median"), "ms", "one image, median"),
        ("max_latency_ms", latency.get("p99"), "ms", "one image, 99th percentile"),
        ("max_load_seconds", measured.get("load_seconds"), "s", "to load"),
        ("max_memory_mb", measured.get("peak_rss_mb"), "MB", "at most in memory"),
    ):
        limit = getattr(settings, name)
        if limit is not None:
            found = "not measured" if value is None else f"{value:g} {unit} {what}"
            passed = value is not None and value <= limit
            yield {"name": name, "passed": passed, "detail": f"{found}; {limit:g} {unit} allowed"}
