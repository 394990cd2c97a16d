"""One way in: how its inputs are made and tried, and what one may cost."""

from __future__ import annotations

import abc
import os
import random
import tempfile
from pathlib import Path
from typing import ClassVar

MODEL = "FUZZ_MODEL"
"""The environment's variable that names the folder of an exported model; without, one that is made in a second."""

MAX_MESSAGE = 20_000
"""Characters of what a user is told about one input; a message that quotes all of what it refuses is a fault."""


class Target(abc.ABC):
    """One way in. Made in each process that tries inputs; what it prepares stays until that ends.

    Attributes:
        name: on the command line.
        max_seconds: of CPU time for one input.
        max_mb: by which one input may raise the memory.
    """

    name: ClassVar[str]
    max_seconds: ClassVar[float] = 3.0
    max_mb: ClassVar[float] = 300.0

    @abc.abstractmethod
    def seeds(self) -> list[bytes]:
        """Good inputs."""

    @abc.abstractmethod
    def make(self, chance: random.Random) -> bytes:
        """A changed one; the same for the same state of `chance`."""

    @abc.abstractmethod
    def attempt(self, data: bytes) -> str:
        """Tries an input; returns in a word or two what became of it.

        Raises:
            Exception: anything at all is a fault of ours.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """Ends what runs."""


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the files of inputs, in memory where that is possible: each is written anew for every input."""
    in_memory = "/dev/shm"
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=in_memory if os.access(in_memory, os.W_OK) else None)


def model_folder(scratch: str) -> str:
    """The exported model that is asked."""
    if given := os.environ.get(MODEL):
        return given
    from tests.model_factory import save_model  # TensorFlow; not all targets need it

    return str(save_model(Path(scratch, "model")))


def check_message(message: str) -> None:
    """That a refusal says something, and not everything.

    Raises:
        AssertionError: otherwise.
    """
    assert len(message.split()) > 1, f"refused without a reason: {message!r}"
    assert len(message) <= MAX_MESSAGE, f"a message of {len(message):,} characters"
