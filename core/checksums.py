"""Checksums of all files of an exported model; SavedModel itself checks only its variables.

A flipped bit in `saved_model.pb` may change a constant of the graph, and one in an asset a class name: the model still
loads, and is wrong. The list is in `assets.extra`, which SavedModel does not read, in the format of `sha256sum`:
`cd <model> && sha256sum --check assets.extra/SHA256SUMS`. Its first line, a comment to `sha256sum`, gives the number of
files and bytes, so that an incomplete copy is noticed without reading all of it.

Local models are read without TensorFlow, which takes seconds to import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from core import atomic_io, storage

CHECKSUMS = "assets.extra/SHA256SUMS"

MODEL_PARTS = ("saved_model.pb", "variables/", "assets/")
"""What TensorFlow reads in a SavedModel's folder."""

_BLOCK = 2**20
_HEAD = re.compile(r"# (\d+) files, (\d+) bytes")


class DamagedModelError(OSError):
    """A file of the model is missing, or is not the one that was exported."""


def write_checksums(directory: str) -> None:
    """Lists all files of a finished model in its directory, local or remote."""
    found = [name for name in files(directory) if name != CHECKSUMS]
    size = sum(_sizes(directory, found).values())
    lines = [f"{sha256(f'{directory}/{name}')}  {name}\n" for name in found]
    storage.make_folder(f"{directory}/{CHECKSUMS.rpartition('/')[0]}")
    atomic_io.write_text(f"{directory}/{CHECKSUMS}", f"# {len(found)} files, {size} bytes\n{''.join(lines)}")


def listed(directory: str) -> str | None:
    """The list as text, which identifies the model; None if there is none, as in other programs' exports.

    Raises StoreError if a store does not say.
    """
    try:
        with atomic_io.open_file(f"{directory}/{CHECKSUMS}", "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return None


def digests(directory: str) -> dict[str, str]:
    """The listed SHA-256 of each file, by its path in the model's directory.

    Raises:
        DamagedModelError: there is no list, or it is cut short.
    """
    return _read_list(directory)[0]


def check_complete(directory: str) -> None:
    """Compares names and total size only, which is cheap enough to do every second.

    Raises:
        DamagedModelError: there is no list, a listed file is missing, or the total size differs.
    """
    found, size = _read_list(directory)
    sizes = _sizes(directory, found)
    for name in found:
        if name not in sizes:
            raise DamagedModelError(f"{name} is missing")
    present = sum(sizes[name] for name in found)
    if present != size:
        raise DamagedModelError(f"its files have {present} bytes, and {CHECKSUMS} says {size}: some were cut short")


def is_complete(directory: str) -> bool:
    """Whether `check_complete` finds nothing."""
    try:
        check_complete(directory)
    except DamagedModelError:
        return False
    return True


def verify(directory: str) -> str:
    """Checks every byte of every listed file; returns their number and size, in words.

    Unlisted files, such as a model card, do not matter unless TensorFlow would read them.

    Raises:
        DamagedModelError: there is no list, or a file is missing, unlisted or changed.
        OSError: a file cannot be read; StoreError for a remote one.
    """
    expected, size = _read_list(directory)
    present = files(directory)
    for name in [*present, "saved_model.pb"]:
        if name.startswith(MODEL_PARTS) and name not in expected:
            raise DamagedModelError(f"{name} is not in {CHECKSUMS}")
    for name, digest in expected.items():
        if name not in present:
            raise DamagedModelError(f"{name} is missing")
        if sha256(f"{directory}/{name}") != digest:
            raise DamagedModelError(f"{name} is damaged: its checksum is not the one in {CHECKSUMS}")
    return f"{len(expected)} files, {size / 2**20:.1f} MB"


def problem(directory: str) -> str:
    """Why a model is not intact or cannot be read; "" if it is intact.

    Raises StoreError if a store fails, which says nothing about the model.
    """
    try:
        verify(directory)
    except OSError as error:
        return str(error)
    return ""


def verify_if_listed(directory: str) -> bool:
    """Verifies a model that may be another program's export; False if it has no list. Raises what `verify` raises."""
    if listed(directory) is None:
        return False
    verify(directory)
    return True


def verify_if_listed_there(path: str) -> None:
    """Verifies a single file of a model, if the list beside it names it.

    Raises:
        DamagedModelError: the file or the list is damaged.
    """
    directory, _, name = path.rpartition("/")
    directory = directory or "."
    if listed(directory) is None:
        return
    digest = _read_list(directory)[0].get(name)
    if digest is not None and sha256(path) != digest:
        raise DamagedModelError(f"{name} is damaged: its checksum is not the one in {CHECKSUMS}")


def sha256(path: str | Path) -> str:
    """The hexadecimal digest of a local or remote file. Raises what `atomic_io.open_file` raises."""
    digest = hashlib.sha256()
    with atomic_io.open_file(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read_list(directory: str) -> tuple[dict[str, str], int]:
    """Digests by name, and the total size of all files in bytes."""
    text = listed(directory)
    if text is None:
        raise DamagedModelError(f"there is no {CHECKSUMS} in {directory}")
    head, *lines = text.removesuffix("\n").split("\n")
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _HEAD.fullmatch(head)
    if not found or int(found[1]) != len(digests):
        raise DamagedModelError(f"{CHECKSUMS} is damaged: its first line does not fit the rest")
    return digests, int(found[2])


def _sizes(directory: str, names: Iterable[str]) -> dict[str, int]:
    """Sizes in bytes, by name, of those files that exist; for a remote folder, of all its files."""
    if storage.is_remote(directory):
        return {one.path: one.size for one in storage.find(directory)}
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[name] = Path(directory, name).stat().st_size
    return found


def files(directory: str) -> list[str]:
    """Paths of all files under a folder, relative to it, sorted."""
    if storage.is_remote(directory):
        return storage.files(directory)
    found = []
    for folder, _, names in os.walk(directory, followlinks=True):
        inside = folder.removeprefix(directory).strip("/")
        found += [f"{inside}/{name}".lstrip("/") for name in names]
    return sorted(found)
