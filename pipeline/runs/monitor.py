"""Tells monitoring how a run goes, on every orchestrator: `heartbeat.json`, and a text file for node_exporter.

Both are replaced in one step. All of a run is in the first, so that each task of a run may be another process.
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

from core import atomic_io, progress
from core.artifacts.heartbeat import HEARTBEAT, Heartbeat, StageBeat
from core.artifacts.last_run import PUSHED, Outcome
from core.errors import Cause, InputError
from core.settings import Settings

_SECONDS = 5.0  # between two beats, unless a stage begins or ends
_SILENCE_SECONDS = 10.0  # of a stage; then the run is said to be alive
_PREFIX = "image_classifier_"
_STATUSES = ("running", "pushed", "waiting", "finished", "refused", "failed")


class Monitor:
    """Writes down what becomes of a run; an `Observer` of its stages. What cannot be written never ends a run."""

    def __init__(self, settings: Settings, run_dir: Path, run: str) -> None:
        """`run`: stands for the run; where the files are of another, it begins now."""
        self._name, self._run_dir, self._run = settings.name, run_dir, run
        self._text = Path(settings.runtime.metrics_directory or run_dir) / f"{settings.name}.prom"
        self._written = time.monotonic()
        self.problem: str | None = None
        self._write(lambda beat: beat)

    def started(self, node: str) -> None:
        """A stage begins."""
        self._stage(node, lambda _, now: StageBeat("running", now))

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        """It says how far it is; see `core.progress.report`."""
        if time.monotonic() - self._written > _SECONDS:
            known = {key: at[key] for key in ("done", "total", "unit")}
            self._stage(node, lambda stage, now: dataclasses.replace(stage, **known))

    def waited(self) -> None:
        """The run is alive, though no stage has said anything for a while."""
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
                if stage.state == "running":  # it was interrupted, or killed, and could not say so
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
            with (self._run_dir / ".heartbeat.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                beat = change(dataclasses.replace(self._read(now), at=now))
                HEARTBEAT.write(self._run_dir, beat)
                atomic_io.write_text(self._text, exposition(self._name, beat))
        except (OSError, InputError) as error:
            logging.getLogger(__name__).log(logging.DEBUG if self.problem else logging.WARNING, "%s", error)
            self.problem = f"monitoring was not told how the run goes: {error}"

    def _read(self, now: float) -> Heartbeat:
        """What was written of this run; of a new one nothing has happened yet, but when the last good one ended."""
        try:
            beat = HEARTBEAT.read(self._run_dir)
        except (OSError, InputError):  # the first, or damaged: it is written anew
            beat = None
        if beat and beat.run == self._run:
            return beat
        return Heartbeat(self._run, "running", now, now, last_success=beat.last_success if beat else None)


class _Heard(logging.Handler):
    def __init__(self, hear: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(logging.INFO)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(vars(record)["progress"])


def exposition(name: str, beat: Heartbeat) -> str:
    """The run as OpenMetrics, with nothing in it that node_exporter's textfile collector could not read."""
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
