"""Checksums of an exported model's files: what a SavedModel lacks, which checks only its variables.

One flipped bit in `saved_model.pb` may be another constant in the graph, and one in an asset another class name: the
model still loads, and is wrong. The list lies where SavedModel keeps what it does not read itself (`assets.extra`), in
the format of `sha256sum`: `cd <model> && sha256sum --check assets.extra/SHA256SUMS`.
"""

from __future__ import annotations

import hashlib

import tensorflow as tf

CHECKSUMS = "assets.extra/SHA256SUMS"

_MODEL_PARTS = ("saved_model.pb", "variables/", "assets/")
_BLOCK = 2**20


class DamagedModelError(OSError):
    """A file of the model is missing, or is not the one that was exported."""


def write_checksums(directory: str) -> None:
    """Lists all files of a finished model in its directory, local or remote."""
    lines = [f"{_sha256(f'{directory}/{name}')}  {name}\n" for name in _files(directory) if name != CHECKSUMS]
    tf.io.gfile.makedirs(f"{directory}/{CHECKSUMS.rpartition('/')[0]}")
    with tf.io.gfile.GFile(f"{directory}/{CHECKSUMS}", "w") as file:
        file.write("".join(lines))


def verify(directory: str) -> str:
    """Reads every byte of every listed file; returns their number and size, in words.

    Files that are not listed do not matter, such as a model card, except where TensorFlow would read them.

    Raises:
        DamagedModelError: there is no list, a file is missing, not listed, or has changed.
        tf.errors.OpError: a file cannot be read.
    """
    if not tf.io.gfile.exists(f"{directory}/{CHECKSUMS}"):
        raise DamagedModelError(f"there is no {CHECKSUMS} in {directory}")
    with tf.io.gfile.GFile(f"{directory}/{CHECKSUMS}", "rb") as file:
        lines = file.read().decode("utf-8", "replace").removesuffix("\n").split("\n")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = _files(directory)
    size = 0
    for name in [*present, "saved_model.pb"]:
        if name.startswith(_MODEL_PARTS) and name not in listed:
            raise DamagedModelError(f"{name} is not in {CHECKSUMS}")
    for name, digest in listed.items():
        if name not in present:
            raise DamagedModelError(f"{name} is missing")
        if _sha256(f"{directory}/{name}") != digest:
            raise DamagedModelError(f"{name} is damaged: its checksum is not the one in {CHECKSUMS}")
        size += tf.io.gfile.stat(f"{directory}/{name}").length
    return f"{len(listed)} files, {size / 2**20:.1f} MB"


def _files(directory: str) -> list[str]:
    """Paths of all files under a folder, relative to it, sorted."""
    found = []
    for folder, _, names in tf.io.gfile.walk(directory):
        inside = folder.removeprefix(directory).strip("/")
        found += [f"{inside}/{name}".lstrip("/") for name in names]
    return sorted(found)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
