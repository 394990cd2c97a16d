"""Computes requests that wait at the same time as one batch, and gives each its part of the outputs.

TensorFlow uses the cores better on a batch than on single images. While one batch is computed, arriving requests form
the next. Nothing waits for a batch to fill, except for a few milliseconds: clients that have just been answered send
their next request, and would otherwise miss the batch of the others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from components.serving.model_versions import ModelVersions
from components.serving.served_model import ServedModel
from core.settings.serving import ServerLimits

Arrays = dict[str, np.ndarray]

_GATHER_SECONDS = 0.01
_BATCH_SECONDS = 0.2  # the most that a joined batch may take: for large images, batches use the cores no better
_LATEST = 0.3  # weight of the latest batch in what an image is expected to take


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What a request asks a model.

    Attributes:
        version: the version of `model`.
        inputs: arrays whose first axis is the images.
        outputs: names of the desired outputs; empty for all.
        pixels: of all images together, according to their headers.
        end: when the request times out, on the monotonic clock.
    """

    version: int
    model: ServedModel
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Sequence[str]
    pixels: int
    end: float

    @property
    def images(self) -> int:
        """The length of the first axis; 0 if there is none."""
        return min((len(value) if value.ndim else 0 for value in self.inputs.values()), default=0)

    @property
    def seconds(self) -> float:
        """The time left, in seconds."""
        return self.end - time.monotonic()

    def joins(self, other: Question) -> bool:
        """Whether two questions can be computed in one batch."""
        return self._kind == other._kind

    @property
    def _kind(self) -> tuple[Any, ...]:
        shapes = sorted((name, value.dtype.str, value.shape[1:]) for name, value in self.inputs.items())
        return self.version, self.signature, tuple(self.outputs), shapes


class Batcher:
    """Computes waiting requests; to be used in one event loop.

    One of the `concurrent` batches is for requests that can be joined, so that they meet; the others are for requests
    that are large enough alone, so that these do not hold up the small ones.
    """

    def __init__(
        self, versions: ModelVersions, limits: ServerLimits, computed: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """`computed` is called with the numbers of requests and images of each batch."""
        self._versions = versions
        self._limits = limits
        self._computed = computed
        self._waiting: deque[tuple[Question, asyncio.Future]] = deque()
        self._running: dict[asyncio.Task, list[Question]] = {}
        self._expected = 0  # requests that the next joined batch waits for
        self._image_seconds: dict[tuple[int, str], float] = {}  # of a version's signature
        self._threads = ThreadPoolExecutor(limits.concurrent, thread_name_prefix="compute")

    @property
    def waiting(self) -> int:
        """How many requests are waiting."""
        return len(self._waiting)

    async def run(self, question: Question) -> Arrays:
        """The outputs asked for.

        Raises:
            tf.errors.OpError: the model refused it or failed; `DeadlineExceededError` where time ran out.
            ValueError: an input has not the shape the signature takes.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        self._start()
        given = max(0.0, question.seconds)
        try:
            return await asyncio.wait_for(answer, given)
        except asyncio.TimeoutError:
            raise tf.errors.DeadlineExceededError(None, None, f"the server was busy for {given:.1f} s") from None

    async def close(self) -> None:
        """Waits until all that is computed has ended."""
        await asyncio.gather(*self._running, return_exceptions=True)
        self._threads.shutdown()

    def _start(self) -> None:
        self._waiting = deque(filter(_is_wanted, self._waiting))
        while len(self._running) < self._limits.concurrent and (batch := self._next_batch()):
            task = asyncio.ensure_future(self._compute(batch))
            self._running[task] = [question for question, _ in batch]
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task) -> None:
        questions = self._running.pop(task)
        if self._is_small(questions[0]):
            self._expected = len(self._waiting) + len(questions)
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._expect_no_more)
        self._start()

    def _expect_no_more(self) -> None:
        self._expected = 0
        self._start()

    def _most(self, question: Question) -> int:
        """The most images in a batch that a question may join."""
        expected = self._image_seconds.get((question.version, question.signature), 0.0)
        return self._limits.joined if expected == 0 else min(self._limits.joined, int(_BATCH_SECONDS / expected))

    def _is_small(self, question: Question) -> bool:
        return 0 < question.images < self._limits.joined

    def _next_batch(self) -> list[tuple[Question, asyncio.Future]]:
        """The first question that may be computed now, and later ones that join it while there is room."""
        running = [question for questions in self._running.values() for question in questions]
        pixels = self._limits.pixels - sum(question.pixels for question in running)
        small = any(map(self._is_small, running)) or len(self._waiting) < self._expected
        batch: list[tuple[Question, asyncio.Future]] = []
        images = 0
        for waiting in self._waiting:
            question = waiting[0]
            if batch:
                fits = self._is_small(question) and images + question.images <= self._most(batch[0][0])
                taken = fits and question.pixels <= pixels and batch[0][0].joins(question)
            elif running and question.pixels > pixels:
                break  # the memory that decoding takes is bounded, however many batches run
            else:
                taken = not (small and self._is_small(question))
            if taken:
                batch.append(waiting)
                images, pixels = images + question.images, pixels - question.pixels
                if not self._is_small(batch[0][0]):
                    break
        chosen = {id(waiting) for waiting in batch}
        self._waiting = deque(waiting for waiting in self._waiting if id(waiting) not in chosen)
        return batch

    def _learn(self, question: Question, image_seconds: float) -> None:
        """Updates the expected time per image: immediately if faster; the first batch, which prepares the graph, is
        ignored.
        """
        kind = (question.version, question.signature)
        before = self._image_seconds.get(kind)
        if before is None:
            self._image_seconds[kind] = 0.0
        else:
            slower = before + _LATEST * (image_seconds - before)
            self._image_seconds[kind] = min(image_seconds, slower) if before else image_seconds

    async def _compute(self, batch: list[tuple[Question, asyncio.Future]]) -> None:
        first, loop = batch[0][0], asyncio.get_running_loop()
        with self._versions.hold(first.version):  # a request may end before its batch does
            questions = [question for question, _ in batch]
            began = time.monotonic()
            found = await loop.run_in_executor(self._threads, _run_together, questions)
        images = sum(question.images for question in questions)
        self._learn(first, (time.monotonic() - began) / max(1, images))
        self._computed(len(batch), images)
        for (_, answer), result in zip(batch, found, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)


def _is_wanted(waiting: tuple[Question, asyncio.Future]) -> bool:
    question, answer = waiting
    return not answer.done() and question.seconds > 0


def _run_together(questions: Sequence[Question]) -> list[Arrays | Exception]:
    """Runs one batch, or each request alone if that fails: one that the model refuses must not affect the others."""
    if len(questions) > 1:
        first, sizes = questions[0], [question.images for question in questions]
        inputs = {name: np.concatenate([question.inputs[name] for question in questions]) for name in first.inputs}
        try:
            found = _run(first, inputs, max(question.seconds for question in questions))
            if all(value.ndim and len(value) == sum(sizes) for value in found.values()):
                ends = np.cumsum(sizes)
                starts = ends - sizes
                return [{n: v[s:e] for n, v in found.items()} for s, e in zip(starts, ends, strict=True)]
        except tf.errors.DeadlineExceededError as error:
            return [error] * len(questions)
        except Exception:
            pass
    return [_alone(question) for question in questions]


def _alone(question: Question) -> Arrays | Exception:
    try:
        return _run(question, question.inputs, question.seconds)
    except Exception as error:
        return error


def _run(question: Question, inputs: Mapping[str, np.ndarray], seconds: float) -> Arrays:
    if seconds <= 0:
        raise tf.errors.DeadlineExceededError(None, None, "the request's time is over")
    return question.model.run(question.signature, inputs, question.outputs, timeout_seconds=seconds)
