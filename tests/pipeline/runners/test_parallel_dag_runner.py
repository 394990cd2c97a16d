"""Nodes run side by side, each in a process of its own, and what fails there is known here."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from pipeline.runners.forks import _GRACE_SECONDS, Fork
from tests.conftest import ROOT

NODES = "import sys; from pathlib import Path; from tests.pipeline.runners import parallel_nodes as nodes; "

Result = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    program = f"{NODES} nodes.main(Path(sys.argv[1]))"
    folder = str(tmp_path_factory.mktemp("runs"))
    done = subprocess.run(
        [sys.executable, "-c", program, folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_independent_nodes_run_at_the_same_time_and_others_after_them(results: dict[str, Result]) -> None:
    pair = results["pair"]
    assert pair["error"] is None
    assert pair["states"] == {"First": "complete", "Second": "complete", "Copy": "complete"}
    assert pair["told"][:2] == [["started", "First"], ["started", "Second"]]
    events = [entry[:2] for entry in pair["told"]]
    assert events.index(["ended", "First"]) < events.index(["started", "Copy"])
    said = {"done": 1, "total": 2, "unit": "meetings", "note": ""}
    assert ["progressed", "First", said] in pair["told"] and ["progressed", "Second", said] in pair["told"]
    seconds = [entry[2] for entry in pair["told"] if entry[0] == "ended"]
    assert len(seconds) == 3 and all(0 < one < 30 for one in seconds)


def test_many_nodes_write_to_ml_metadata_at_the_same_time(results: dict[str, Result]) -> None:
    assert results["many"]["states"] == {f"N{n}": "complete" for n in range(8)}


def test_some_stages_run_on_what_the_last_run_left_that_has_it(results: dict[str, Result]) -> None:
    def ran(case: str) -> tuple[list[str], dict[str, str]]:
        found = results["partial"][case]
        assert found["error"] is None
        return [entry[1] for entry in found["told"] if entry[0] == "started"], found["states"]

    assert ran("to") == (["A", "B"], {"A": "complete", "B": "complete"})
    assert ran("last") == (["C"], {"A": "cached", "B": "cached", "C": "complete"})
    assert ran("one") == (["B"], {"A": "cached", "B": "complete"})
    assert ran("from") == (["C"], {"A": "cached", "B": "cached", "C": "complete"})


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            "before any",
            "--from B: no earlier run has left all that it needs (that of A is missing): run the whole pipe",
        ),
        ("unknown", "--from Bb: there is no such stage; did you mean B?"),
        ("backwards", "--from C --to A: A does not come after C, so there is nothing to run"),
    ],
)
def test_stages_that_cannot_run_are_the_users_mistake(results: dict[str, Result], case: str, said: str) -> None:
    assert results["partial"][case]["error"].startswith(said) and results["partial"][case]["told"] == []


@pytest.mark.parametrize(
    ("how", "said", "blame"),
    [
        ("input", "the images are bad", "input"),
        ("bug", "ZeroDivisionError: by zero", "code"),
        ("SIGKILL", "its process was killed; most likely, memory ran out", "machine"),
        ("SIGTERM", "its process was ended by SIGTERM, from outside; run again", "machine"),
        ("SIGSEGV", "its process was ended by SIGSEGV; the log may say why", "code"),
    ],
)
def test_a_node_that_fails_lets_the_one_beside_it_finish_and_none_start(
    results: dict[str, Result], how: str, said: str, blame: str
) -> None:
    failed = results[how]
    node, message, blamed = failed["error"]
    assert node == "Bad" and message.startswith(said) and blamed == blame
    assert failed["states"].pop("Bad") == ("running" if how.startswith("SIG") else "failed")
    assert failed["states"] == {"Good": "complete"}
    assert {entry[1] for entry in failed["told"] if entry[0] == "started"} == {"Bad", "Good"}


def test_a_process_that_is_killed_lets_go_of_what_it_locked(results: dict[str, Any]) -> None:
    assert results["lock"] == [True, "taken"]


def test_an_interrupt_ends_all_nodes(results: dict[str, Result]) -> None:
    assert results["interrupted"]["error"] == "interrupted"
    assert results["interrupted"]["children"] == 0 and results["interrupted"]["seconds"] < 30


def test_a_second_interrupt_does_not_wait_for_a_node_that_goes_on(results: dict[str, Result]) -> None:
    again = results["interrupted twice"]
    assert again["error"] == "interrupted" and again["children"] == 0
    assert again["seconds"] < _GRACE_SECONDS


def test_who_is_told_to_end_does_not_wait_for_nodes(results: dict[str, Result]) -> None:
    told = results["terminated"]
    assert told["error"] == "ended by SIGTERM" and told["children"] == 0
    assert told["seconds"] < _GRACE_SECONDS


def test_a_run_that_is_killed_takes_its_nodes_along(tmp_path: Path) -> None:
    program = f"{NODES} nodes.run(Path(sys.argv[1]), [nodes.End(how='parent killed')])"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as run:
        assert run.wait(120) == -signal.SIGKILL
    limit = time.monotonic() + 20
    while any(str(tmp_path).encode() in line for line in command_lines()):
        assert time.monotonic() < limit
        time.sleep(0.1)


def command_lines() -> Iterator[bytes]:
    """Of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield path.read_bytes()


def test_a_process_in_which_tensorflow_has_run_is_not_forked() -> None:
    tf.constant(1)
    with pytest.raises(RuntimeError, match="TensorFlow has run in this process"):
        Fork(print, print)
