"""A pipeline's own folder on this machine: where things are, who may use it, and how the last run ended."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.artifacts.last_run import LAST_RUN, Outcome
from core.errors import InputError
from core.settings import Settings

ARTIFACTS = "artifacts"  # folder of all artifacts in the pipeline's folder
METADATA = "metadata.sqlite"  # ML Metadata's store, in the pipeline's folder
_ENDING_SECONDS = 3.0


def check_root(root: str) -> None:
    """Raises InputError for a folder in which TFX and Beam would not find their own files again."""
    found = sorted(set("*?[\\") & set(root))
    if found:
        raise InputError(
            f"{root} has {' and '.join(found)} in its name, which TFX takes for patterns: give a folder without as "
            "ROOT, or as kubeflow.pipeline_root; the images may lie anywhere"
        )


def run_dir(settings: Settings, root: Path) -> Path:
    """Where everything of this pipeline is kept."""
    return root.resolve() / settings.name


def push_folder(settings: Settings, root: Path) -> Path:
    """Where its models are pushed; a relative `push.directory` lies in the pipeline's own folder.

    Raises:
        InputError: it is no local folder; only clusters push to remote ones.
    """
    if "://" in settings.push.directory:
        raise InputError(f"push.directory is {settings.push.directory}; a local run pushes to a local folder")
    return run_dir(settings, root) / Path(settings.push.directory).expanduser()


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keeps other runs out of the pipeline's folder while the block lasts. Raises InputError where one is in it.

    The stages of a run that was killed hold the lock, too, until the system has ended them.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    with (folder / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    refusal = f"another run is going on in {folder}; wait for it, or give another ROOT"
                    raise InputError(refusal) from None
                time.sleep(0.1)
        yield


def read_last(folder: Path, warn: Callable[[str], None]) -> Outcome | None:
    """The record of the last run in a pipeline's folder; None before the first.

    `warn` gets a sentence if there is one that cannot be read, which counts as none.
    """
    try:
        return LAST_RUN.read(folder)
    except FileNotFoundError:
        pass  # the first run
    except (InputError, OSError) as error:
        warn(f"the record of the last run was not used: {error}")
    return None
