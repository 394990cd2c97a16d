"""Deletes what no blessed, pushed or recent run needs: artifacts, trainings that nobody will resume, and old logs.

A run needs everything that its stages read and wrote, according to ML Metadata. Kept are the last runs, the run of the
last blessed model (the next one's baseline and warm start), and the runs of all versions in the push directory, in
service or waiting for approval.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core.artifacts.blessing import BLESSED, MODEL_BLESSING, REJECTED
from core.artifacts.pushed_model import WAITS, pushed_to, rolled_back_path
from core.artifacts.training_summary import MODEL_RUN, SUMMARY
from pipeline.runs import lineage
from pipeline.runs.push_directory import is_there
from pipeline.runs.run_dir import ARTIFACTS

_KEPT_LOGS = 50  # as many as pages of reports
_ROOM = 2**20  # bytes on a disk, without which ML Metadata may not be able to write


class Pruned(NamedTuple):
    """What was deleted: how many artifacts and logs, and their bytes."""

    artifacts: int
    logs: int
    size: int

    def __str__(self) -> str:
        return f"{self.artifacts:,} artifacts and {self.logs:,} logs of old runs, {self.size / 1e6:,.1f} MB"


def prune_runs(store: MetadataStore, name: str, run_dir: Path, keep_runs: int) -> Pruned:
    """Deletes the artifacts of the pipeline `name` that no kept run needs, and old logs.

    The caller must hold the folder's lock. All artifacts are marked in ML Metadata before the first folder is touched,
    so that TFX's cache and resolvers no longer see them; if this is killed, the next call deletes the rest. Links are
    not followed, and only what lies in the pipeline's own folder of artifacts is deleted.

    Args:
        keep_runs: how many of the last runs are kept, however they ended.
    """
    root = run_dir / ARTIFACTS
    pipeline = store.get_context_by_type_and_name("pipeline", name)
    every = store.get_artifacts_by_context(pipeline.id) if pipeline else []
    kept = _kept_runs(store, name, every, keep_runs)
    executions = sorted({execution.id for run in kept for execution in store.get_executions_by_context(run)})
    # All that their stages read and left, or were to leave.
    needed = {event.artifact_id for event in store.get_events_by_execution_ids(executions)} if executions else set()
    doomed = [one for one in every if one.state != pb.Artifact.DELETED and one.id not in needed]
    for artifact in doomed:
        artifact.state = pb.Artifact.DELETED
    used = {one.uri for one in every if one.state != pb.Artifact.DELETED}
    gone = {Path(one.uri) for one in every if one.state == pb.Artifact.DELETED and one.uri not in used}
    gone |= {path for path in _unfinished_trainings(root) if str(path) not in used and int(path.name) not in executions}
    gone = {path for path in gone if _lies_in(path, root)}
    freed = 0
    if shutil.disk_usage(run_dir).free < _ROOM:
        freed = sum(map(delete, gone))
    if doomed:
        store.put_artifacts(doomed)
    logs = sorted((run_dir / "logs").glob("*.log"))[:-_KEPT_LOGS]
    return Pruned(len(doomed), len(logs), freed + sum(map(delete, gone)) + sum(map(delete, logs)))


def _kept_runs(store: MetadataStore, name: str, every: Iterable[pb.Artifact], keep_runs: int) -> set[int]:
    """Ids of the contexts of the runs that are kept."""
    kept = {run.id for run in lineage.run_contexts(store, name)[-keep_runs:]}
    needed: dict[str, pb.Artifact] = {}
    for artifact in sorted(every, key=lambda artifact: artifact.id):
        properties = lineage.output_of(artifact).properties
        pushed = pushed_to(properties)
        if pushed and (is_there(pushed) or is_there(rolled_back_path(pushed))):
            needed[pushed] = artifact  # several runs may have found the same version; any of them will do
        if (waiting := properties.get(WAITS)) and is_there(str(waiting)):
            needed[str(waiting)] = artifact
        blessed = artifact.type == MODEL_BLESSING and properties.get(BLESSED) == 1 and not properties.get(REJECTED)
        if blessed and artifact.state == pb.Artifact.LIVE:
            needed[MODEL_BLESSING] = artifact
    return kept | {_run_that_made(store, artifact) for artifact in needed.values()}


def _run_that_made(store: MetadataStore, artifact: pb.Artifact) -> int:
    contexts = store.get_contexts_by_artifact(artifact.id)
    return min(context.id for context in contexts if context.type == lineage.RUN)


def _unfinished_trainings(root: Path) -> Iterator[Path]:
    """Folders of killed trainings, named after their executions; ML Metadata knows no artifact for them."""
    for path in (root / MODEL_RUN.node / MODEL_RUN.output).glob("*"):
        if path.name.isdigit() and not Path(SUMMARY.path(path)).exists():
            yield path


def _lies_in(path: Path, root: Path) -> bool:
    """Whether a path is below `root`, with no link on the way that leads out of it."""
    return path.is_relative_to(root) and path != root and path.parent.resolve().is_relative_to(root.resolve())


def delete(path: Path) -> int:
    """Deletes a folder, a file or a link, never a link's target; returns how many bytes it held."""
    if path.is_symlink() or path.is_file():
        size = path.lstat().st_size
        path.unlink()
        return size
    if not path.exists():
        return 0
    size = sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir() or one.is_symlink())
    shutil.rmtree(path)
    return size
