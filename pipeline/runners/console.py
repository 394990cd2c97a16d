"""The terminal of a run: one line per stage on the screen, and all output of libraries in a log file.

TensorFlow, Beam and TFX write hundreds of lines to standard output and error, some from C++. While `screen` is open,
both file descriptors lead to the log file, and only what is printed through its console reaches the screen.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import absl.logging
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from core import progress
from core.artifacts.last_run import Stage
from core.errors import Cause
from core.secrets import MaskingFormatter

_HEARTBEAT_SECONDS = 30
_FILE_WIDTH = 200  # columns; nothing is cut short in a CI log


@contextlib.contextmanager
def screen(log: Path, variables: Collection[str] = ()) -> Iterator[Console]:
    """The screen, which does not wrap lines, so that paths and commands can be copied. All else goes to the log file.

    In the log, these environment variables' values are replaced by their names.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(MaskingFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s", variables))
    root = logging.getLogger()
    level, verbosity = root.level, absl.logging.get_verbosity()
    width = None if os.isatty(1) else _FILE_WIDTH
    _flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", buffering=1) as file:
        with log.open("ab") as target:
            for number in saved:
                os.dup2(target.fileno(), number)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        absl.logging.set_verbosity(absl.logging.INFO)  # of what TFX logs; TensorFlow lowers its logger's level
        try:
            yield Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            absl.logging.set_verbosity(verbosity)
            for close in (handler.close, _flush):  # a full disk takes no more of the log; the screen is needed the more
                with contextlib.suppress(OSError):
                    close()
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def print_prose(console: Console, head: str, text: str, style: str | None = None) -> None:
    """Prints sentences, wrapped between words; the lines after the first are indented by the width of `head`."""
    for paragraph in text.split("\n"):
        width = console.width - len(head)
        for line in textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False) or [""]:
            console.print(head + line, style=style)
            head = " " * len(head)


class StageLines:
    """A line per stage: running stages are updated at the bottom of a terminal, and finished ones stay above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: list[StageLine] = []
        self._live = Live(
            get_renderable=lambda: Group(*(line.row("⠿", "cyan") for line in self._running)),
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # they lead to the log file, and must not be drawn
            redirect_stderr=False,
        )

    def __enter__(self) -> StageLines:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end("interrupted")
        self._live.stop()

    def end(self, detail: str) -> None:
        """Ends the lines of all running stages."""
        for line in tuple(self._running):
            line.finish("✗", "red", detail)

    def start(self, name: str) -> StageLine:
        """The line of a stage that begins."""
        line = StageLine(self._console, self._running, name)
        self._running.append(line)
        return line


class StageLine:
    """The line of one stage."""

    def __init__(self, console: Console, running: list[StageLine], name: str) -> None:
        self._console, self._running, self.name = console, running, name
        self._detail = self._position = ""
        self._start = self._beat = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._start

    def progressed(self, at: dict[str, Any]) -> None:
        """Shows the stage's progress, as reported by `core.progress`; without a terminal, at most every half minute."""
        self._detail = _describe(at)
        if not self._console.is_terminal and time.monotonic() - self._beat > _HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            self._console.print(self.row("…", ""))

    def finish(self, mark: str, style: str, detail: str = "", position: str = "") -> None:
        """Prints the stage's final line."""
        self._running.remove(self)
        self._detail, self._position = detail or self._detail, position
        self._console.print(self.row(mark, style))

    def row(self, mark: str, style: str) -> Table:
        """The current line."""
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1, style=style)
        row.add_column(width=5, justify="right", style="dim")
        row.add_column(min_width=20, no_wrap=True)
        row.add_column(min_width=8, justify="right", no_wrap=True)
        row.add_column()  # the one that may be narrowed
        detail = Text(self._detail, no_wrap=True, overflow="ellipsis")
        row.add_row(mark, self._position, self.name, f"{self.seconds:.1f} s", detail)
        return row


class NodeLines:
    """Draws the `total` nodes of a run as `ParallelDagRunner` reports them.

    For a finished node, `look` says whether it was cached, and why it finds the data or the model unfit.
    """

    def __init__(self, lines: StageLines, total: int, look: Callable[[str], tuple[bool, str | None]]) -> None:
        self._lines, self._total, self._look = lines, total, look
        self._running: dict[str, StageLine] = {}
        self.stages: list[Stage] = []

    def started(self, node: str) -> None:
        """See `Observer`."""
        self._running[node] = self._lines.start(node)

    def progressed(self, node: str, at: dict[str, Any]) -> None:
        """See `Observer`."""
        self._running[node].progressed(at)

    def waited(self) -> None:
        """See `Observer`: the lines of a terminal move by themselves."""

    def ended(self, node: str, cpu_seconds: float | None, cause: Cause | None) -> None:
        """See `Observer`."""
        line = self._running.pop(node)
        cached, objection = (False, None) if cause else self._look(node)
        cpu_seconds = None if cpu_seconds is None else round(cpu_seconds, 2)
        self.stages.append(Stage(node, round(line.seconds, 2), cpu_seconds, cached))
        found = "cached" if cached else ""
        position = f"{len(self.stages)}/{self._total}"
        if cause:
            line.finish("✗", "red", "failed", position)
        elif objection:
            line.finish("✗", "red", " · ".join(filter(None, [found, objection])), position)
        else:
            line.finish("✓", "dim" if cached else "green", found, position)


@contextlib.contextmanager
def progress_line(first: str) -> Iterator[None]:
    """Shows the progress of a long loop on standard error, if that is a terminal; `first` runs before the loop."""
    logger = logging.getLogger(progress.LOGGER_NAME)
    level = logger.level
    with Console(stderr=True).status(first) as status:

        def show(record: logging.LogRecord) -> bool:
            status.update(escape(_describe(vars(record)["progress"])))
            return False  # it goes no further: Beam has the root logger print all it gets

        logger.addFilter(show)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeFilter(show)
            logger.setLevel(level)


def _describe(at: dict[str, Any]) -> str:
    """Progress as `core.progress` reports it: `600/1,797 images · a note`."""
    count = f"{at['done']:,}" + (f"/{at['total']:,}" if at["total"] else "") + f" {at['unit']}"
    return " · ".join(filter(None, ["" if at["total"] == 1 else count, at["note"]]))
