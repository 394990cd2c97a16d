"""The end of a run, the same on every orchestrator: determines its outcome, cleans up, and records it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ml_metadata.metadata_store import MetadataStore

from core import checksums, secrets
from core.artifacts.last_run import LAST_RUN, SETTINGS, Outcome, RunSettings, Stage
from core.artifacts.pushed_model import again, rolled_back_path, version_of
from core.errors import Cause
from core.settings import Settings, to_dict
from core.settings.messages import shortened
from pipeline.runs import history, push_directory
from pipeline.runs.lineage import NodeRun, Reader, node_runs
from pipeline.runs.metadata import open_store
from pipeline.runs.monitor import Monitor
from pipeline.runs.outcome import from_nodes, mark_failed
from pipeline.runs.pruning import prune_runs
from pipeline.runs.run_dir import ARTIFACTS, push_folder, run_dir

_UNRECORDED = "the run could not be recorded in ML Metadata"
_NOTIFY_SECONDS = 30
_NOTIFY_BYTES = 4096  # of its output, kept in the log
_HEARD_SECONDS = 1.0  # a background process that it started may keep its output open


@dataclasses.dataclass
class Execution:
    """A run as its orchestrator saw it.

    Attributes:
        usage: returns the seconds that the run has taken so far, and the peak memory of its largest process in MB.
        monitor: is notified of the end.
        run_id: ML Metadata's name of the run; None if it failed before its first stage.
        inputs: a hash of everything that determines the run; None if the orchestrator does not know it.
        nodes: ids of all nodes of the pipeline; empty if it failed before they were known.
        stages: those that ran, in order; ML Metadata knows which of them were cached.
        cause: why it failed; None if it did not fail, or the orchestrator does not know.
        failed_stage: the stage that failed; None if none did.
    """

    usage: Callable[[], tuple[float, int]]
    monitor: Monitor
    log: str | None = None
    run_id: str | None = None
    inputs: str | None = None
    nodes: list[str] = dataclasses.field(default_factory=list)
    stages: list[Stage] = dataclasses.field(default_factory=list)
    cause: Cause | None = None
    failed_stage: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)


def record(folder: Path | str, settings: dict[str, Any], ended: Outcome) -> None:
    """Replaces `last_run.json` in the pipeline's folder, and the settings beside it."""
    SETTINGS.write(folder, RunSettings(settings))
    LAST_RUN.write(folder, ended)


def end_run(settings: Settings, root: Path, execution: Execution) -> Outcome:
    """Determines how a run ended, writes record and report, completes ML Metadata, and deletes what is no longer
    needed.

    Failures in here become notes: they must neither hide a push nor change the exit code.
    """
    folder = run_dir(settings, root)
    plain = to_dict(settings)
    reader = Reader({}, logging.ERROR)
    attempt = reader.attempt

    def make_report() -> str:
        from pipeline.report import make  # brings matplotlib

        return str(make.make_report(folder, settings.name, ended, plain))

    store = nodes = None
    if run_id := execution.run_id:
        store = attempt("ML Metadata could not be opened", lambda: open_store(folder, settings.runtime.metadata))
    if run_id and store:
        nodes = attempt("ML Metadata could not be read", lambda: node_runs(store, run_id))
    ended = _outcome(execution, nodes or {}, str(folder / ARTIFACTS), plain, reader)
    if ended.pushed_model:
        pushed_to = push_folder(settings, root)
        attempt("old versions could not be deleted", lambda: push_directory.prune(pushed_to, settings.push.keep))
        attempt("the pushed version could not be looked for", lambda: _find_pushed(ended, pushed_to))
    # Before the report, which must not cost a finished push its record.
    attempt("the record could not be written", lambda: record(folder, plain, ended))
    if run_id:  # otherwise there is nothing to report but the error, which should appear at once
        ended.report = attempt("the report could not be made", make_report)
    ended.seconds, ended.peak_rss_mb = execution.usage()
    if store and nodes:
        attempt(_UNRECORDED, lambda: history.record(store, settings.name, plain, ended))
        attempt("what was interrupted left files that could not be deleted", lambda: _clear_leftovers(store, folder))
        pruned = attempt(
            "old artifacts could not be deleted",
            lambda: prune_runs(store, settings.name, folder, settings.runtime.keep_runs),
        )
        ended.freed_mb = round(pruned.size / 1e6, 1) if pruned else 0.0
    _tell(settings, ended, folder, execution.monitor, reader)
    return ended


def end_remote_run(
    settings: Settings, root: str, execution: Execution, nodes: Mapping[str, NodeRun], store: MetadataStore | None
) -> Outcome:
    """Like `end_run`, but for runs whose files only their pods can see: makes no report, and deletes nothing.

    Args:
        root: folder of the pipeline, local or remote, which contains its artifacts.
        nodes: what is known about its stages.
        store: ML Metadata, if it can be reached.
    """
    reader = Reader({}, logging.ERROR)
    plain = to_dict(settings)
    ended = _outcome(execution, nodes, root, plain, reader)
    reader.attempt("the record could not be written", lambda: record(root, plain, ended))
    if store and nodes:
        reader.attempt(_UNRECORDED, lambda: history.record(store, settings.name, plain, ended))
    _tell(settings, ended, root, execution.monitor, reader)
    return ended


def _outcome(
    execution: Execution, nodes: Mapping[str, NodeRun], artifacts: str, plain: dict[str, Any], reader: Reader
) -> Outcome:
    """How a run ended; its notes are the reader's list of problems, which may still grow."""
    ended = from_nodes(nodes, execution.nodes, artifacts)
    reader.problems += [*execution.notes, *ended.notes]
    ended.notes, ended.run_id, ended.log = reader.problems, execution.run_id, execution.log
    for stage in execution.stages:
        node = nodes.get(stage.id)
        ended.stages.append(dataclasses.replace(stage, cached=node is not None and node.cached))
    if execution.cause:
        said = secrets.mask(execution.cause.message, secrets.variables(plain))
        mark_failed(ended, execution.cause._replace(message=said), execution.failed_stage)
    rejected = ended.approval is not None and ended.approval.decision == "rejected"
    if ended.status != "failed" and not rejected:  # a rejection may be taken back
        ended.inputs = execution.inputs
    ended.seconds, ended.peak_rss_mb = execution.usage()
    return ended


def _tell(settings: Settings, ended: Outcome, folder: Path | str, monitor: Monitor, reader: Reader) -> None:
    """Notifies of the run's end, and records if that failed."""
    monitor.finish(ended)
    ended.notes += filter(None, [monitor.problem])
    reader.attempt("the record could not be written", lambda: LAST_RUN.write(folder, ended))
    if problem := notify(settings, ended):
        ended.notes.append(problem)
        reader.attempt("the record could not be written", lambda: LAST_RUN.write(folder, ended))


def notify(settings: Settings, ended: Outcome) -> str | None:
    """Passes the outcome to the command in the settings, if there is one; returns a sentence if that fails."""
    if settings.notify is None:
        return None
    document = json.dumps({"pipeline": settings.name, **to_dict(ended)}, ensure_ascii=False)
    try:
        command = subprocess.Popen(
            ["/bin/sh", "-c", settings.notify],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"notify: the command could not be run: {error}"
    assert command.stdin and command.stdout
    said = bytearray()
    # Whatever it reads and prints, it fills neither disk nor memory, and the wait is limited to its timeout.
    feeding = threading.Thread(
        target=_feed, args=(command.stdin, document.encode("utf-8", "backslashreplace")), daemon=True
    )
    hearing = threading.Thread(target=_hear, args=(command.stdout, said), daemon=True)
    feeding.start()
    hearing.start()
    try:
        command.wait(_NOTIFY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"notify: the command took more than {_NOTIFY_SECONDS} s, and was killed"
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    hearing.join(_HEARD_SECONDS)
    variables = re.findall(r"[A-Za-z_]\w*", settings.notify)  # such as a webhook's URL, which curl may print
    text = secrets.mask(said.decode("utf-8", "replace").strip(), [name for name in variables if name in os.environ])
    logging.getLogger(__name__).info("notify: exit code %d: %s", command.returncode, text)
    if command.returncode:
        return f"notify: the command ended with exit code {command.returncode}: {shortened(text) or 'it said nothing'}"
    return None


def _feed(stream: IO[bytes], document: bytes) -> None:
    with contextlib.suppress(OSError), stream:  # it need not read
        stream.write(document)


def _hear(stream: IO[bytes], said: bytearray) -> None:
    with stream:
        while part := os.read(stream.fileno(), 65_536):
            said += part[: _NOTIFY_BYTES - len(said)]


def _clear_leftovers(store: MetadataStore, folder: Path) -> None:
    from pipeline.runs import leftovers  # brings TensorFlow

    leftovers.clear(store, folder)


def _find_pushed(ended: Outcome, pushed_to: str) -> None:
    """Finds the pushed version; if it is no longer in service, a note says what is, and the next run is not skipped."""
    version = str(ended.pushed_model)
    if checksums.is_complete(version):
        return
    ended.inputs = None
    out = rolled_back_path(version)
    rolled_back = push_directory.is_there(out)
    gone = "was rolled back since" if rolled_back else "was deleted since"
    remedy = f"; {again(out)}" if rolled_back else ""
    serving = push_directory.versions(pushed_to)
    ended.pushed_model = serving[-1] if serving else None
    now = f"what serves is {serving[-1]}" if serving else "nothing serves now"
    number = version_of(version)
    ended.notes.append(f"this model was pushed before as version {number}, which {gone}; {now}{remedy}")
