"""What a file that harms its decoder does to the others, to the process that asked, and to itself.

`test_decoder` runs this in a process in which TensorFlow never runs, and in one in which it has run.
"""

import functools
import multiprocessing
import os
import select
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
import tensorflow as tf

from components.ingestion import decoder
from components.ingestion.decoder import Decoder
from components.ingestion.image_reading import RejectedError, read_image
from core.errors import MachineError
from core.image_limits import ImageLimits
from tests.components.conftest import encoded, picture
from tests.components.ingestion import harmed_decoder

if os.environ.get("TENSORFLOW_HAS_RUN"):  # of `test_decoder`
    tf.constant(0)

FORKS = pytest.mark.skipif("TENSORFLOW_HAS_RUN" in os.environ, reason="it forks, and sets what only forks inherit")
GOOD = [encoded(picture(seed)) for seed in range(8)]


@pytest.fixture
def harmed() -> Iterator[Decoder]:
    reader = Decoder(harmed_decoder.read_image, ImageLimits())
    yield reader
    reader.close()


@functools.cache
def other() -> Decoder:
    """Whose process no file harms."""
    return Decoder(read_image, ImageLimits())


def reasons(reader: Decoder, files: list[bytes]) -> list[str]:
    """Of each: why it is a reject; empty, if it was read as it is without another process."""
    found = list(reader.read(files))
    for image, expected in zip(found, other().read(files), strict=True):
        assert isinstance(image, RejectedError) or image == expected
    return [f"{image}" if isinstance(image, RejectedError) else "" for image in found]


def test_a_file_that_crashes_its_decoder_is_a_reject_and_the_others_are_read(harmed: Decoder) -> None:
    files = [*GOOD[:3], b"SIGSEGV", GOOD[3], b"SIGABRT", *GOOD[4:], b"", b"no image"]
    crashes = ["decode: its decoder crashed (SIGSEGV)", "", "decode: its decoder crashed (SIGABRT)"]
    found = reasons(harmed, files)
    assert found[:-2] == ["", "", "", *crashes, "", "", "", ""]
    assert found[-2] == "open: the file is empty"
    assert found[-1].startswith("identify: not an image")
    assert reasons(harmed, GOOD) == [""] * len(GOOD)


@FORKS
def test_a_file_that_takes_too_long_or_too_much_is_a_reject(harmed: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_SECONDS", 8)
    assert reasons(harmed, [GOOD[0], b"exhausts", GOOD[1]]) == ["", "decode: its decoder took too much memory", ""]
    assert reasons(harmed, [b"never answers", GOOD[0]]) == ["decode: its decoder did not answer for 8 s", ""]
    found = reasons(harmed, [b"SIGXCPU", GOOD[0]])  # what the limit of CPU seconds sends
    assert found == ["decode: its decoder took more than 60 CPU seconds", ""]


def test_a_process_that_is_killed_from_outside_says_nothing_of_the_file(harmed: Decoder) -> None:
    with pytest.raises(MachineError, match="ended by SIGKILL, from outside"):
        list(harmed.read([b"SIGKILL"]))
    assert reasons(harmed, GOOD[:1]) == [""]


def test_a_bug_is_no_reject(harmed: Decoder) -> None:
    with pytest.raises(KeyError, match="a bug"):
        list(harmed.read([GOOD[0], b"a bug", GOOD[1], GOOD[2]]))
    assert reasons(harmed, GOOD[3:]) == [""] * 5


def test_answers_that_nobody_waits_for_are_nobody_elses(harmed: Decoder) -> None:
    assert next(harmed.read(GOOD[:4])) == next(other().read(GOOD[:1]))
    assert reasons(harmed, GOOD[4:]) == [""] * 4


@FORKS
def test_where_multiprocessing_allows_no_children_too_a_crash_is_a_reject() -> None:
    context = multiprocessing.get_context("fork")
    pipe, end = context.Pipe()
    task = context.Process(target=_task, args=(end,), daemon=True)
    task.start()
    assert pipe.poll(120) and pipe.recv() == ["decode: its decoder crashed (SIGSEGV)", ""]
    task.join()


@FORKS
def test_the_process_ends_with_one_that_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    pipe, end = context.Pipe()
    task = context.Process(target=_asking, args=(end,))
    task.start()
    assert pipe.poll(60)
    ended = os.pidfd_open(pipe.recv())
    task.kill()
    assert select.select([ended], [], [], 60)[0]
    task.join()
    os.close(ended)


def _asking(pipe: Connection) -> None:
    with Decoder(harmed_decoder.read_image, ImageLimits()) as reader:
        assert len(list(reader.read(GOOD[:2]))) == 2
        pipe.send(multiprocessing.active_children()[0].pid)
        time.sleep(600)


def _task(pipe: Connection) -> None:
    with Decoder(harmed_decoder.read_image, ImageLimits()) as reader:
        found = list(reader.read([b"SIGSEGV", GOOD[0]]))
    pipe.send([f"{image}" if isinstance(image, RejectedError) else "" for image in found])
