"""What a run was made from and by: software, hashes, and who made which artifact."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.code_hash import code_hash
from pipeline.report.facts import Made, Step
from pipeline.runs import lineage
from pipeline.runs.lineage import NodeRun

if TYPE_CHECKING:
    from ml_metadata.metadata_store import MetadataStore

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
_LOCK = Path(__file__).resolve().parents[2] / "uv.lock"


def versions() -> dict[str, str]:
    """Of Python, the stack and the machine."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found | {"platform": platform.platform(), "processors": str(os.cpu_count())}


def hashes() -> dict[str, str]:
    """`code`; and where the code runs from a checkout, `lock` and `commit`."""
    found = {"code": code_hash("pipeline.cli.main")}
    if _LOCK.is_file():
        found["lock"] = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
        if commit := _commit(_LOCK.parent):
            found["commit"] = commit
    return found


def _commit(checkout: Path) -> str | None:
    """With `-dirty` if files were changed; None where git or its folder is missing."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def steps(store: MetadataStore, run_id: str, nodes: Mapping[str, NodeRun]) -> list[Step]:
    """The run's nodes in the order in which they started, with what they read and left."""
    left = {a.id: node.id for node in nodes.values() for group in node.outputs.values() for a in group}
    makers = lineage.makers(store, left)
    found = []
    for node in nodes.values():
        read = sorted({a.id for group in node.inputs.values() for a in group})
        made = [
            Made(key, a.id, a.uri, makers[a.id][0], "" if makers[a.id][1] == run_id else makers[a.id][1])
            for key, group in sorted(node.outputs.items())
            for a in group
        ]
        sources = list(dict.fromkeys(left[number] for number in read if number in left))
        found.append(Step(node.id, node.state, node.execution, [s for s in sources if s != node.id], read, made))
    return found
