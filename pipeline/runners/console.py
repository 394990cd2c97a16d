"""The terminal of a run: a line per stage on the screen, everything the libraries print in a log file.

TensorFlow, Beam and TFX write hundreds of lines to standard output and error, some from C++. While `screen` is open
both file descriptors lead to the log file, and only what is printed through its console reaches the screen.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import absl.logging
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from core import progress
from core.artifacts.last_run import Stage

_HEARTBEAT_SECONDS = 30
_FILE_WIDTH = 200  # columns; nothing is cut short in a CI log
_LOGGERS = ("absl", progress.LOGGER_NAME)
_STARTED, _FINISHED = "Component %s is running.", "Component %s is finished."  # what TFX logs
_CACHED = "A cached execution %d is used."


@contextlib.contextmanager
def screen(log: Path) -> Iterator[Console]:
    """The screen, on which lines stay as they are: paths and commands can be copied. All else goes to the log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    width = None if os.isatty(1) else _FILE_WIDTH
    _flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", buffering=1) as file:
        with log.open("ab") as target:
            for number in saved:
                os.dup2(target.fileno(), number)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            handler.close()
            _flush()
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


class StageLine:
    """One stage on a line of its own: alive while it runs on a terminal, one final line anywhere."""

    def __init__(self, console: Console, name: str, position: str = "") -> None:
        self._console, self._name, self._position = console, name, position
        self._detail = ""
        self._start = self._beat = time.monotonic()
        self._cpu = _cpu_seconds()
        self._live = Live(
            get_renderable=lambda: self._row("⠿", "cyan"),
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # they lead to the log file, and must not be drawn
            redirect_stderr=False,
        )
        if console.is_terminal:
            self._live.start()

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._start

    @property
    def cpu_seconds(self) -> float:
        """Of all cores, in this process and its children that ended, since the stage began."""
        return _cpu_seconds() - self._cpu

    def update(self, detail: str) -> None:
        """Shows how far the stage is; where there is no terminal, at most every half minute."""
        self._detail = detail
        if not self._console.is_terminal and time.monotonic() - self._beat > _HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            self._console.print(self._row("…", ""))

    def finish(self, mark: str, style: str, detail: str = "") -> None:
        """Prints the stage's final line."""
        self._live.stop()
        self._detail = detail or self._detail
        self._console.print(self._row(mark, style))

    def _row(self, mark: str, style: str) -> Table:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1, style=style)
        row.add_column(width=5, justify="right", style="dim")
        row.add_column(min_width=20, no_wrap=True)
        row.add_column(min_width=8, justify="right", no_wrap=True)
        row.add_column()  # the one that may be narrowed
        detail = Text(self._detail, no_wrap=True, overflow="ellipsis")
        row.add_row(mark, self._position, self._name, f"{self.seconds:.1f} s", detail)
        return row


class StageLines(logging.Handler):
    """Draws the stages of a TFX run, `total` of them, from what LocalDagRunner and our own components log.

    A stage that finished is asked after by `objection`: why it finds the data or the model unfit; None if it does not.
    """

    def __init__(self, console: Console, total: int, objection: Callable[[str], str | None] = lambda _: None) -> None:
        super().__init__(logging.INFO)
        self._console, self._total, self._objection = console, total, objection
        self._line: StageLine | None = None
        self._node, self._cached = "", False
        self.stages: list[Stage] = []

    def __enter__(self) -> StageLines:
        # By absl's own verbosity, not by its logger's level: TensorFlow lowers and restores it on the way.
        self._verbosity = absl.logging.get_verbosity()
        absl.logging.set_verbosity(absl.logging.INFO)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self)
        absl.logging.set_verbosity(self._verbosity)
        if self._line:
            self._finish(self._line, "✗", "red", "interrupted" if kind is KeyboardInterrupt else "failed")

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging for every record; only a few concern us."""
        at = getattr(record, "progress", None)
        if at and self._line:
            self._line.update(_describe(at))
        elif record.msg == _STARTED and isinstance(record.args, tuple):
            self._node, self._cached = str(record.args[0]), False
            self._line = StageLine(self._console, self._node, f"{len(self.stages) + 1}/{self._total}")
        elif record.msg == _CACHED:
            self._cached = True
        elif record.msg == _FINISHED and self._line:
            cached = "cached" if self._cached else ""
            if reason := self._objection(self._node):
                self._finish(self._line, "✗", "red", " · ".join(filter(None, [cached, reason])))
            else:
                self._finish(self._line, "✓", "dim" if cached else "green", cached)

    def _finish(self, line: StageLine, mark: str, style: str, detail: str) -> None:
        line.finish(mark, style, detail)
        self.stages.append(Stage(self._node, round(line.seconds, 2), round(line.cpu_seconds, 2), self._cached))
        self._line = None


def _cpu_seconds() -> float:
    """User's and system's, of all threads of this process and of its children that ended."""
    return sum(os.times()[:4])


@contextlib.contextmanager
def progress_line(first: str) -> Iterator[None]:
    """Shows on standard error, where that is a terminal, how far a long loop is; `first` is done before it begins."""
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
