"""The software that a run was made with: versions, and hashes of the code."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from pipeline.code_hash import code_hash

_PACKAGES = (
    "tfx",
    "tensorflow",
    "tensorflow-estimator",
    "keras",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "tensorflow-data-validation",
    "apache-beam",
    "ml-metadata",
    "numpy",
    "pillow",
)
_LOCK = Path(__file__).resolve().parents[1] / "uv.lock"


def versions() -> dict[str, str]:
    """Versions of Python, the stack and the machine."""
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "processors": str(os.cpu_count()),
    }


@functools.cache
def hashes() -> dict[str, str]:
    """`code`; and, if the code runs from a checkout, `lock` and `commit`, with `-dirty` if files were changed."""
    found = {"code": code_hash("pipeline.cli.main")}
    if _LOCK.is_file():
        found["lock"] = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
        if git := shutil.which("git"):
            command = [git, "-C", str(_LOCK.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
            if commit := subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip():
                found["commit"] = commit
    return found
