"""Tells monitoring how a run is going, on every orchestrator: `heartbeat.json`, and a text file for node_exporter.

Both are replaced atomically. The first holds everything about a run, so that each of its tasks may be another process
or, on a cluster, another pod.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from core import atomic_io, checksums, progress, storage
from core.artifacts.base import JsonFile
from core.artifacts.heartbeat import HEARTBEAT, Heartbeat, StageBeat
from core.artifacts.last_run import PUSHED, Outcome
from core.errors import Cause

_SECONDS = 5.0  # between two beats, unless a stage begins or ends
_SILENCE_SECONDS = 10.0  # of a stage, after which the run is reported as alive
_PREFIX = "image_classifier_"
_STATUSES = ("running", "pushed", "waiting", "finished", "refused", "failed")


class Monitor:
    """Writes down how a run is going; an `Observer` of its stages. A failure to write never ends a run."""

    def __init__(self, name: str, folder: str | Path, run: str, metrics_directory: str | None = None) -> None:
        """Begins to tell.

        Args:
            name: of the pipeline.
            folder: the pipeline's own; gets both files, unless the text file goes to `metrics_directory`.
            run: identifies the run; if the files are about another, this one begins now.
        """
        self._name, self._folder, self._run = name, str(folder), run
        self._text = f"{metrics_directory or folder}/{name}.prom"
        self._written = time.monotonic()
        self.problem: str | None = None
        self._write(lambda beat: beat)

    def started(self, node: str) -> None:
        """A stage begins."""
        self._stage(node, lambda _, now: StageBeat("running", now))

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        """It reports its progress; see `core.progress.report`."""
        if time.monotonic() - self._written > _SECONDS:
            known = {key: at[key] for key in ("done", "total", "unit")}
            self._stage(node, lambda stage, now: dataclasses.replace(stage, **known))

    def waited(self) -> None:
        """The run is alive, although no stage has reported anything for a while."""
        self._write(lambda beat: beat)

    def ended(self, node: str, cpu_seconds: float | None, cause: Cause | None) -> None:
        """It ended, with a cause if it failed."""
        del cpu_seconds
        self._stage(node, lambda stage, now: dataclasses.replace(stage, state="failed" if cause else "ended"))

    def finish(self, outcome: Outcome) -> None:
        """The run ended."""

        def end(beat: Heartbeat) -> Heartbeat:
            stages = dict(beat.stages)
            for one in outcome.stages:
                known = stages.get(one.id, StageBeat("ended", beat.started))
                stages[one.id] = dataclasses.replace(known, seconds=one.seconds, cached=one.cached)
            for name, stage in stages.items():
                if stage.state == "running":  # it was interrupted or killed, and could not report that
                    stages[name] = dataclasses.replace(stage, state="failed")
            return dataclasses.replace(
                beat,
                status=outcome.status,
                exit_code=outcome.exit_code,
                last_success=beat.at if outcome.exit_code == PUSHED else beat.last_success,
                stages=stages,
                failures=len(outcome.failures),
                notes=len(outcome.notes),
                images=_counts(outcome),
                metrics={name: m.overall for name, m in outcome.metrics.items() if m.overall is not None},
                peak_rss_mb=outcome.peak_rss_mb,
                freed_mb=outcome.freed_mb,
            )

        self._write(end)

    @contextlib.contextmanager
    def watching(self, node: str) -> Iterator[None]:
        """Follows a stage that runs in this process while the block lasts."""
        heard = _Heard(lambda at: self.progressed(node, at))
        logger = logging.getLogger(progress.LOGGER_NAME)
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_SILENCE_SECONDS):
                self.waited()

        self.started(node)
        logger.addHandler(heard)
        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield
        except BaseException:
            self.ended(node, None, Cause("it failed"))
            raise
        else:
            self.ended(node, None, None)
        finally:
            logger.removeHandler(heard)
            over.set()
            beating.join()

    def _stage(self, node: str, change: Callable[[StageBeat, float], StageBeat]) -> None:
        def changed(beat: Heartbeat) -> Heartbeat:
            stage = change(beat.stages.get(node, StageBeat("running", beat.at)), beat.at)
            took = dataclasses.replace(stage, seconds=round(beat.at - stage.started, 2))
            return dataclasses.replace(beat, stages={**beat.stages, node: took})

        self._write(changed)

    def _write(self, change: Callable[[Heartbeat], Heartbeat]) -> None:
        """Replaces both files."""
        self._written, now = time.monotonic(), time.time()
        try:
            with self._alone():
                self._replace(change(dataclasses.replace(self._read(now), at=now)))
        except Exception as error:  # whatever a file system raises
            logging.getLogger(__name__).log(logging.DEBUG if self.problem else logging.WARNING, "%s", error)
            self.problem = f"monitoring was not told how the run goes: {error}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if storage.is_remote(self._folder):  # where nothing can be locked
            yield
            return
        with Path(self._folder, ".heartbeat.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, beat: Heartbeat) -> None:
        HEARTBEAT.write(self._folder, beat)
        atomic_io.write_text(self._text, exposition(self._name, beat))

    def _read(self, now: float) -> Heartbeat:
        """What was written about this run; for a new one, only when the last good one ended."""
        beat = _attempt(HEARTBEAT, self._folder)
        if beat and beat.run == self._run:
            return beat
        return Heartbeat(self._run, "running", now, now, last_success=beat.last_success if beat else None)


class Shared(Monitor):
    """The same where each stage is a pod, and nothing can lock the pipeline's folder, which may be remote.

    Each pod writes a part of its own and merges all parts: if one overwrites another's news, the next restores it.
    """

    def __init__(self, name: str, root: str, run: str, stage: str | None = None) -> None:
        """`stage`: whose part it writes; None after all stages have ended, when it writes the whole."""
        self._place = parts_folder(root, run)
        self._part = JsonFile(f"{stage}{_BEAT}", Heartbeat) if stage else None
        self._lock = threading.Lock()  # of this pod's threads
        super().__init__(name, root, run)

    @property
    def stages(self) -> dict[str, StageBeat]:
        """Of all parts."""
        return self._joined(time.time()).stages

    def forget(self) -> None:
        """Deletes the parts."""
        storage.delete_folder(self._place)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            storage.make_folder(self._place)
            yield

    def _replace(self, beat: Heartbeat) -> None:
        if self._part:
            self._part.write(self._place, beat)
            beat = self._joined(beat.at)
        super()._replace(beat)

    def _read(self, now: float) -> Heartbeat:
        if self._part is None:
            return self._joined(now)
        return _attempt(self._part, self._place) or Heartbeat(self._run, "running", now, now)

    def _joined(self, now: float) -> Heartbeat:
        names = [name for name in checksums.files(self._place) if name.endswith(_BEAT)]
        parts = [part for name in names if (part := _attempt(JsonFile(name, Heartbeat), self._place))]
        stages = {stage: at for part in parts for stage, at in part.stages.items()}
        return dataclasses.replace(
            super()._read(now), started=min((part.started for part in parts), default=now), at=now, stages=stages
        )


_BEAT = ".beat.json"  # the end of a part's name


def parts_folder(root: str, run: str) -> str:
    """Where the pods of a run keep what they know about it until it has ended."""
    return f"{root.rstrip('/')}/.running/{run}"


def _attempt(file: JsonFile[Heartbeat], folder: str) -> Heartbeat | None:
    """A file's content; None before the first run, or if it cannot be read: then it is rewritten."""
    try:
        return file.read(folder)
    except Exception:  # whatever a file system raises
        return None


class _Heard(logging.Handler):
    def __init__(self, hear: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(logging.INFO)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(vars(record)["progress"])


def exposition(name: str, beat: Heartbeat) -> str:
    """The run as OpenMetrics, restricted to what node_exporter's textfile collector can read."""
    registry = CollectorRegistry()

    def gauge(metric: str, meaning: str, values: Mapping[Any, float | None], *labels: str) -> None:
        made = Gauge(_PREFIX + metric, meaning, ("pipeline", *labels), registry=registry)
        for key, value in values.items():
            if value is not None:
                made.labels(name, *key).set(value)

    stages = {(stage,): at for stage, at in beat.stages.items()}
    rows = {(stage, at.unit or ""): at for stage, at in beat.stages.items() if at.done is not None}
    gauge("heartbeat_timestamp_seconds", "When the run last showed that it is alive.", {(): beat.at})
    gauge("run_start_timestamp_seconds", "When the run began.", {(): beat.started})
    gauge("run_seconds", "How long it took, or has taken so far.", {(): beat.at - beat.started})
    statuses = {(one,): float(one == beat.status) for one in _STATUSES}
    gauge("run_status", "1 for what the run is, or how it ended.", statuses, "status")
    gauge("run_exit_code", "As the command's; absent while it runs.", {(): beat.exit_code})
    gauge("run_failures", "Reasons why it was refused or failed.", {(): beat.failures})
    gauge("run_notes", "What one should know although nothing failed.", {(): beat.notes})
    gauge("last_success_timestamp_seconds", "When a run last ended with exit code 0.", {(): beat.last_success})
    for state, meaning in (("running", "runs"), ("failed", "failed")):
        states = {key: float(stage.state == state) for key, stage in stages.items()}
        gauge(f"stage_{state}", f"1 for a stage that {meaning}.", states, "stage")
    gauge("stage_cached", "Whether it was cached.", {k: float(s.cached) for k, s in stages.items()}, "stage")
    gauge("stage_seconds", "How long it took, or has taken so far.", {k: s.seconds for k, s in stages.items()}, "stage")
    gauge("stage_rows", "What it has finished.", {k: at.done for k, at in rows.items()}, "stage", "unit")
    gauge("stage_rows_expected", "Of how many.", {k: at.total for k, at in rows.items()}, "stage", "unit")
    gauge("images", "Files by what became of them.", {(k,): float(v) for k, v in beat.images.items()}, "kind")
    gauge("model_metric", "Of the model on the test split.", {(k,): v for k, v in beat.metrics.items()}, "metric")
    gauge("run_peak_memory_bytes", "Of its largest process.", {(): beat.peak_rss_mb * 2**20})
    gauge("run_freed_bytes", "Artifacts of old runs that it deleted.", {(): beat.freed_mb * 1e6})
    return generate_latest(registry).decode()


def _counts(outcome: Outcome) -> dict[str, int]:
    kinds = ("found", "ignored", "rejected", "left_out", "read", "train", "eval", "test", "duplicates")
    return {kind: getattr(outcome.images, kind) for kind in kinds} if outcome.images else {}
