import io
import subprocess
import sys
import time

import pytest
import rich.console

from core import progress
from core.errors import Cause
from pipeline.runners.console import NodeLines, StageLines, print_prose, progress_line

PROGRAM = """
import logging, os, subprocess, sys
from pathlib import Path
from pipeline.runners.console import NodeLines, StageLines, screen
with screen(Path(sys.argv[1])) as console:
    os.write(2, b"noise from C++\\n")
    print("noise from Python", flush=True)
    with StageLines(console) as lines:
        nodes = NodeLines(lines, 2, lambda node: (node == "Second", None))
        nodes.started("First")
        nodes.started("Second")
        logging.getLogger("absl").info("TFX says what it does")
        for node in ("Second", "First"):
            nodes.progressed(node, {"done": 3, "total": 4, "unit": "images", "note": "[bold] is text"})
            nodes.ended(node, 1.5, None)
    console.print("the end")
print("after")
"""


def test_the_screen_shows_stages_and_the_log_all_else(tmp_path):
    log = tmp_path / "logs" / "run.log"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(log)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["✓", "1/2", "Second"], ["✓", "2/2", "First"]]
    assert lines[0].rstrip().endswith("cached")
    assert "3/4 images · [bold] is text" in lines[1]
    assert lines[2:] == ["the end", "after"]
    assert done.stderr == ""
    text = log.read_text()
    for noise in ("noise from C++", "noise from Python", "TFX says what it does"):
        assert noise in text


def node_lines(lines: StageLines, **objections: str) -> NodeLines:
    return NodeLines(lines, 3, lambda node: (node == "Check", objections.get(node)))


def test_a_stage_that_finds_the_model_unfit_gets_no_tick():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, soft_wrap=True)
    with StageLines(console) as lines:
        nodes = node_lines(lines, Gate="too low", Check="slow")
        for node in ("Gate", "Check", "Pusher"):
            nodes.started(node)
            nodes.ended(node, 1.0, None)
    gate, check, pusher = out.getvalue().splitlines()
    assert gate.startswith("✗") and gate.rstrip().endswith("too low")
    assert check.startswith("✗") and check.rstrip().endswith("cached · slow")
    assert pusher.startswith("✓")


def test_a_long_reason_is_cut_and_nothing_else_is():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, soft_wrap=True)
    line = StageLines(console).start("ServingCheck")
    line.finish("✗", "red", "median: [1] " + "24.84 ms of one image and so on " * 9, "13/18")
    (shown,) = out.getvalue().splitlines()
    assert shown.startswith("✗ 13/18 ServingCheck ") and " median: [1] 24.84 ms" in shown
    assert len(shown) == 80 and shown.endswith("…")


def test_a_stage_that_fails_and_one_that_is_interrupted_get_their_lines():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, soft_wrap=True)
    with pytest.raises(KeyboardInterrupt), StageLines(console) as lines:
        nodes = node_lines(lines)
        nodes.started("Broken")
        nodes.started("Beside")
        nodes.ended("Broken", None, Cause("why"))
        raise KeyboardInterrupt
    broken, beside = out.getvalue().splitlines()
    assert broken.split() == ["✗", "1/3", "Broken", "0.0", "s", "failed"]
    assert beside.split() == ["✗", "Beside", "0.0", "s", "interrupted"]
    assert [(s.id, s.cpu_seconds, s.cached) for s in nodes.stages] == [("Broken", None, False)]


def test_what_fails_between_stages_ends_its_line():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, soft_wrap=True)
    with StageLines(console) as lines:
        lines.start("infer schema")
        lines.end("failed")
    assert out.getvalue().split() == ["✗", "infer", "schema", "0.0", "s", "failed"]


def test_all_stages_that_run_are_drawn_on_a_terminal():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, force_terminal=True)
    with StageLines(console) as lines:
        first, _ = lines.start("First"), lines.start("Second")
        first.progressed({"done": 3, "total": 4, "unit": "images", "note": ""})
        time.sleep(0.6)  # it is redrawn four times a second
        drawn = out.getvalue()
    assert "First" in drawn and "3/4 images" in drawn and "Second" in drawn


class _Screen(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("screen", "shown"), [(_Screen(), True), (io.StringIO(), False)], ids=["terminal", "file"])
def test_a_progress_line_is_drawn_on_a_terminal_alone(
    screen: io.StringIO, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")

    with progress_line("loading the model"):
        progress.report(3, 5_000, "images")
        time.sleep(0.3)  # it is redrawn a dozen times a second
    progress.report(4, 5_000, "images")

    assert ("3/5,000 images" in screen.getvalue()) is shown
    assert "4/5,000" not in screen.getvalue()


def test_prose_is_broken_between_words_and_paths_are_not():
    console = rich.console.Console(file=(out := io.StringIO()), width=30, soft_wrap=True)
    print_prose(
        console,
        "  note: ",
        "the base is random, see /a/very/long/path/that/is-wider/than/the/screen for why\nand more",
    )
    assert out.getvalue().splitlines() == [
        "  note: the base is random,",
        "        see",
        "        /a/very/long/path/that/is-wider/than/the/screen",
        "        for why",
        "        and more",
    ]
