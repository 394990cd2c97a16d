"""A pipeline's own folder on this machine: where things are, and how the last run ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from core import storage
from core.artifacts.last_run import LAST_RUN, Outcome
from core.errors import InputError
from core.settings import Settings

ARTIFACTS = "artifacts"  # folder of all artifacts in the pipeline's folder
METADATA = "metadata.sqlite"  # ML Metadata's store, in the pipeline's folder


def check_root(root: str) -> None:
    """Raises InputError for a folder in which TFX and Beam would not find their own files again."""
    found = sorted(set("*?[\\") & set(root))
    if found:
        raise InputError(
            f"{root} has {' and '.join(found)} in its name, which TFX takes for patterns: give a folder without as "
            "ROOT, or as kubeflow.pipeline_root; the images may lie anywhere"
        )


def run_dir(settings: Settings, root: Path) -> Path:
    """The folder in which everything of this pipeline is kept."""
    return root.resolve() / settings.name


def push_folder(settings: Settings, root: Path) -> str:
    """Where its models are pushed: a path or a URL; a relative `push.directory` lies in the pipeline's own folder.

    Raises:
        InputError: it is neither a path nor on a store that can be written to, or has characters with a meaning there.
    """
    directory = settings.push.directory
    if not storage.is_remote(directory):
        return str(run_dir(settings, root) / Path(directory).expanduser())
    if not re.fullmatch(r"(gs|s3)://[^/*?\[\\]+(/[^/*?\[\\]+)*/*", directory):
        raise InputError(
            f"push.directory is {directory}: give a folder of this machine, gs://bucket/folder or s3://bucket/folder, "
            "without any of * ? [ \\ in its name"
        )
    return directory.rstrip("/")


def read_last(folder: Path | str, warn: Callable[[str], None]) -> Outcome | None:
    """The record of the last run in a pipeline's folder; None before the first.

    `warn` is called with a sentence if the record cannot be read, which counts as none.
    """
    try:
        return LAST_RUN.read(folder)
    except FileNotFoundError:
        pass  # the first run
    except (InputError, OSError) as error:
        warn(f"the record of the last run was not used: {error}")
    return None
