"""Runs a pipeline on this machine: each node in a fork of this process, independent nodes at the same time.

TFX's LocalDagRunner runs one node after the other in one process.
"""

from __future__ import annotations

import functools
import signal
from datetime import datetime
from typing import Any, Protocol

from tfx.orchestration.portable import tfx_runner
from tfx.proto.orchestration import pipeline_pb2

from core.errors import Cause
from core.processes import TerminatedError
from pipeline.runners.forks import Fork, Lock, first_to_speak, stop
from pipeline.runners.partial_run import take_over, to_run
from pipeline.runners.single_node import SingleNodeRunner

_SILENCE_SECONDS = 10.0


class Observer(Protocol):
    """Hears of the nodes."""

    def started(self, node: str) -> None:
        """A node begins."""

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        """It says how far it is; see `core.progress.report`."""

    def waited(self) -> None:
        """None has said anything for a while."""

    def ended(self, node: str, cpu_seconds: float | None, cause: Cause | None) -> None:
        """It ended, with a cause if it failed; None if its process did not live to say how much it computed."""


class Observers:
    """Several, told one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, node: str) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.started(node)

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.progressed(node, at)

    def waited(self) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.waited()

    def ended(self, node: str, cpu_seconds: float | None, cause: Cause | None) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.ended(node, cpu_seconds, cause)


class NodeError(Exception):
    """A node failed: those that ran beside it have ended, and none was started after it."""

    def __init__(self, node: str, cause: Cause) -> None:
        super().__init__(f"{node}: {cause.message}")
        self.node = node
        self.cause = cause


class ParallelDagRunner(tfx_runner.IrBasedRunner):
    """Starts a node when all nodes before it have finished, at most `at_once` at a time, in the pipeline's order."""

    def __init__(self, at_once: int, observer: Observer) -> None:
        self._at_once = at_once
        self._observer = observer
        self._run_id = datetime.now().isoformat()

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Called by `run`.

        Raises:
            NodeError: a node failed, or its process was killed.
        """
        asked = to_run(pipeline)
        upstream = {node.pipeline_node.node_info.id: {*node.pipeline_node.upstream_nodes} for node in pipeline.nodes}
        waiting = {node: upstream[node] & {*asked} for node in asked}
        take_over(pipeline, self._run_id)
        lock = Lock()
        running: dict[Fork, str] = {}
        error: NodeError | None = None
        try:
            while running or (waiting and not error):
                ready = [node for node, before in waiting.items() if not before and not error]
                for node in ready[: self._at_once - len(running)]:
                    del waiting[node]
                    self._observer.started(node)
                    runner = SingleNodeRunner(node, self._run_id, lock)
                    progressed = functools.partial(self._observer.progressed, node)
                    running[Fork(progressed, runner.run_with_ir, pipeline)] = node
                spoke = first_to_speak([*running], _SILENCE_SECONDS)
                if not spoke:
                    self._observer.waited()
                for fork in spoke:
                    if ending := fork.hear():
                        node = running.pop(fork)
                        if ending.cause:
                            error = error or NodeError(node, ending.cause)
                        self._observer.ended(node, ending.cpu_seconds, ending.cause)
                        for before in waiting.values():
                            before.discard(node)
        except TerminatedError:  # who sent the signal waits for seconds only
            stop([*running], [signal.SIGKILL])
            raise
        finally:
            stop([*running])
        if error:
            raise error
