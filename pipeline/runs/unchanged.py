"""Whether a run would find every stage cached: then the last run stands, and nothing heavy needs to be imported."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.artifacts import provenance
from core.artifacts.last_run import Outcome, Stage
from core.artifacts.nodes import RESOLVERS
from core.checkout import CHECKOUT
from core.settings import Settings, to_dict
from core.settings.runtime import MetadataServer
from pipeline.code_hash import PACKAGES
from pipeline.runs import integrity, metadata
from pipeline.runs.lineage import latest_run_id, node_runs

if TYPE_CHECKING:
    from components.ingestion.layouts.listing import Listing
    from core.signing import PublicKey


def hash_inputs(settings: Settings, listings: Iterable[Listing], weights: str) -> str:
    """A hash of all that decides a run: images, weights, schema, settings, code and libraries.

    Args:
        listings: of all images that the run reads.
        weights: fingerprint of the base's weights.
    """
    digest = hashlib.sha256()
    plain = json.dumps(to_dict(settings), sort_keys=True)
    for text in (plain, *(listing.fingerprint() for listing in listings), weights, _hash_code()):
        digest.update(f"{text}\0".encode())
    digest.update(_hash_file(settings.schema_file))
    return digest.hexdigest()


@functools.cache
def _hash_code() -> str:
    """A hash of code and libraries, computed once: later edits do not affect a running process."""
    installed = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])  # setuptools adds its own later
    libraries = sorted(f"{one.name}=={one.version}" for one in installed)
    digest = hashlib.sha256("\0".join([sys.version, *libraries]).encode())
    for path in _code():
        digest.update(_hash_file(path))
    return digest.hexdigest()


def _hash_file(path: Path) -> bytes:
    return f"{path}\0".encode() + hashlib.sha256(path.read_bytes() if path.exists() else b"").digest()


def _code() -> Iterator[Path]:
    for package in PACKAGES:
        found = (path for path in (CHECKOUT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        yield from sorted(found)


def is_unchanged(
    last: Outcome | None,
    inputs: str,
    folder: Path,
    name: str,
    server: MetadataServer | None = None,
    signer: PublicKey | None = None,
) -> bool:
    """Whether the last run had these inputs and judged its model, and all that it left still exists.

    Every byte of the version that it pushed is read, so that a version that is damaged, or that `signer` did not sign,
    is pushed again.
    """
    if not last or last.inputs != inputs or not last.report or not Path(last.report).exists():
        return False
    versions = {"pushed": last.pushed_model, "waiting": last.waiting}
    if last.status in versions and not ((version := versions[last.status]) and not provenance.problem(version, signer)):
        return False
    if not metadata.exists(folder, server):
        return False
    store = metadata.open_store(folder, server)
    if latest_run_id(store, name) != last.run_id:
        return False
    nodes = node_runs(store, last.run_id or "").values()
    left = (made for node in nodes for outputs in node.outputs.values() for made in outputs)
    return all(Path(made.uri).exists() and not integrity.damage(made.uri, made.properties) for made in left)


def repeated(last: Outcome, seconds: float, peak_rss_mb: int) -> Outcome:
    """The record of a run that found nothing to do."""
    images = last.images
    if images and images.computed is not None:
        images = dataclasses.replace(images, computed=0, reused=images.computed + (images.reused or 0))
    stages = [Stage(stage.id, 0.0, 0.0, cached=stage.id not in RESOLVERS) for stage in last.stages]
    return dataclasses.replace(last, images=images, stages=stages, seconds=seconds, peak_rss_mb=peak_rss_mb)
