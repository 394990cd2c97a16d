"""Whether artifacts are still what their stages wrote; one that is not is made again instead of being used.

When a stage finishes, the size, modification time and SHA-256 of each of its files go into ML Metadata together with
the artifact. Before a run uses any of them, it compares sizes and times, and the contents of files that are small or
have another time: no run reads gigabytes to find that nothing has changed. Large files have checksums of their own,
which their readers check (TFRecords, checkpoints, SavedModels); after a stage fails, all its inputs are compared by
content.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from core import checksums, storage
from pipeline.runs.lineage import node_runs

FILES = "files"
"""Custom property of an artifact: JSON, for each file its path: [bytes, nanoseconds of its last change, SHA-256]."""

_SMALL = 2**20  # bytes; such files have no checksums of their own, and take no time to read


def describe(uri: str) -> str | None:
    """The value of `FILES` for an artifact just written; None for a remote one, whose store keeps checksums itself."""
    if storage.is_remote(uri):
        return None
    return json.dumps({name: _describe(path) for name, path in _files(Path(uri))})


def damage(uri: str, properties: Mapping[str, object], thorough: bool = False) -> str | None:
    """What has happened to an artifact since it was written, in words; None if nothing has, or if it is unknown.

    Args:
        properties: its custom properties.
        thorough: whether to compare every byte.
    """
    written = properties.get(FILES)
    if written is None:
        return None
    if not Path(uri).exists():
        return "it is gone"
    files = json.loads(str(written))
    present = dict(_files(Path(uri)))
    if missing := sorted({*files} - {*present}):
        return f"{missing[0]} is gone"
    if more := sorted({*present} - {*files}):
        return f"{more[0]} was added"
    for name, (size, changed, sha256) in files.items():
        stat = present[name].stat()
        if stat.st_size != size:
            return f"{name} has {stat.st_size:,} bytes, and had {size:,}"
        if thorough or size <= _SMALL or stat.st_mtime_ns != changed:
            if checksums.sha256(present[name]) != sha256:
                return f"the content of {name} has changed"
            if stat.st_mtime_ns != changed:
                with contextlib.suppress(OSError):  # it was only copied: the next run need not read it
                    os.utime(present[name], ns=(stat.st_atime_ns, changed))
    return None


def discard_damaged(store: MetadataStore, folder: Path) -> list[str]:
    """Marks the damaged ones among all artifacts in a folder as deleted; returns a sentence on each.

    TFX's cache and resolvers skip marked artifacts, so the stages that wrote them run again.
    """
    inside = f"{folder}{os.sep}"
    live = [a for a in store.get_artifacts() if a.state == pb.Artifact.LIVE and a.uri.startswith(inside)]
    return list(_discard(store, live, folder, thorough=False))


def discard_damaged_inputs(store: MetadataStore, run_id: str, node: str, folder: Path) -> list[str]:
    """The same for the inputs of a node that failed, by every byte."""
    found = node_runs(store, run_id).get(node)
    ids = sorted({made.id for inputs in found.inputs.values() for made in inputs}) if found else []
    return list(_discard(store, store.get_artifacts_by_id(ids), folder, thorough=True))


def _discard(store: MetadataStore, artifacts: Iterable[pb.Artifact], folder: Path, thorough: bool) -> Iterator[str]:
    for artifact in artifacts:
        properties = {name: value.string_value for name, value in artifact.custom_properties.items()}
        if found := damage(artifact.uri, properties, thorough):
            artifact.state = pb.Artifact.DELETED
            store.put_artifacts([artifact])
            name = Path(artifact.uri).relative_to(folder) if Path(artifact.uri).is_relative_to(folder) else artifact.uri
            yield f"{name} is damaged: {found}; it is not used, and made again where it is needed"


def _describe(path: Path) -> tuple[int, int, str]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, checksums.sha256(path)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files of an artifact except hidden ones, by their path in it."""
    if folder.is_file():
        yield folder.name, folder
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path
