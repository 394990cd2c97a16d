import io
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rich.console

from core import progress
from pipeline.runners.console import StageLine, StageLines, print_prose, progress_line, screen

PROGRAM = """
import logging, os, subprocess, sys
from pathlib import Path
from pipeline.runners.console import StageLines, screen
from core import progress
with screen(Path(sys.argv[1])) as console:
    os.write(2, b"noise from C++\\n")
    print("noise from Python", flush=True)
    with StageLines(console, 2) as stages:
        for node in ("First", "Second"):
            logging.getLogger("absl").info("Component %s is running.", node)
            logging.getLogger("absl").warning("a warning of the stack")
            progress.report(3, 4, "images", "[bold] is text")
            if node == "Second":
                logging.getLogger("absl").info("A cached execution %d is used.", 7)
            logging.getLogger("absl").info("Component %s is finished.", node)
    console.print("the end")
print("after")
"""


def test_the_screen_shows_stages_and_the_log_all_else(tmp_path):
    log = tmp_path / "logs" / "run.log"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(log)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [["✓", "1/2", "First"], ["✓", "2/2", "Second"]]
    assert "3/4 images · [bold] is text" in lines[0]
    assert lines[1].rstrip().endswith("cached")
    assert lines[2:] == ["the end", "after"]
    assert done.stderr == ""
    text = log.read_text()
    for noise in ("noise from C++", "noise from Python", "a warning of the stack"):
        assert noise in text


def test_a_stage_that_finds_the_model_unfit_gets_no_tick(tmp_path, capfd):
    absl = logging.getLogger("absl")
    with screen(tmp_path / "log") as console, StageLines(console, 3, {"Gate": "too low", "Check": "slow"}.get):
        for node, cached in (("Gate", False), ("Check", True), ("Pusher", False)):
            absl.info("Component %s is running.", node)
            if cached:
                absl.info("A cached execution %d is used.", 7)
            absl.info("Component %s is finished.", node)
    gate, check, pusher = capfd.readouterr().out.splitlines()
    assert gate.startswith("✗") and gate.rstrip().endswith("too low")
    assert check.startswith("✗") and check.rstrip().endswith("cached · slow")
    assert pusher.startswith("✓")


def test_a_long_reason_is_cut_and_nothing_else_is():
    console = rich.console.Console(file=(out := io.StringIO()), width=80, soft_wrap=True)
    line = StageLine(console, "ServingCheck", "13/18")
    line.finish("✗", "red", "median: [1] " + "24.84 ms of one image and so on " * 9)
    (shown,) = out.getvalue().splitlines()
    assert shown.startswith("✗ 13/18 ServingCheck ") and " median: [1] 24.84 ms" in shown
    assert len(shown) == 80 and shown.endswith("…")


def test_a_stage_that_fails_gets_its_line(tmp_path):
    with (
        screen(tmp_path / "log") as console,
        pytest.raises(RuntimeError),
        StageLines(console, 1) as stages,
    ):
        logging.getLogger("absl").info("Component %s is running.", "Broken")
        raise RuntimeError
    assert [(s.id, s.cached) for s in stages.stages] == [("Broken", False)]


def test_progress_reaches_only_the_stage_that_runs(tmp_path):
    with screen(tmp_path / "log") as console, StageLines(console, 1):
        progress.report(1, None, "images")
    assert "1 images" in Path(tmp_path / "log").read_text()


def test_a_stage_line_knows_what_it_took(tmp_path):
    with screen(tmp_path / "log") as console:
        line = StageLine(console, "x")
        sum(range(3_000_000))
        time.sleep(0.2)
        assert line.seconds >= 0.2
        assert line.cpu_seconds > 0.01


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
