"""TensorFlow's file system in memory, `ram://`, made into a remote one that Beam reads and writes too.

Whatever uses plain `os` or `pathlib` on such a path finds nothing there, or leaves a folder `ram:` where it runs.
"""

from __future__ import annotations

import contextlib
import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from apache_beam.io.filesystem import CompressedFile, CompressionTypes, FileMetadata, FileSystem
from tensorflow.python.lib.io import _pywrap_file_io


class RamFileSystem(FileSystem):
    """`ram://` for Beam."""

    @classmethod
    def scheme(cls) -> str:
        return "ram"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        tf.io.gfile.makedirs(path)

    def has_dirs(self) -> bool:
        return True

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        folder = dir_or_prefix if tf.io.gfile.isdir(dir_or_prefix) else dir_or_prefix.rpartition("/")[0]
        for path in files(folder):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, tf.io.gfile.stat(path).length)

    def create(
        self,
        path: str,
        mime_type: str = "application/octet-stream",
        compression_type: str = CompressionTypes.AUTO,
    ) -> Any:
        self.delete([path])  # or TensorFlow's would append
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        file = tf.io.gfile.GFile(path, "wb")
        file.write(b"")  # it exists, even if nothing else is written
        return _packed(file, path, compression_type)

    def open(
        self,
        path: str,
        mime_type: str = "application/octet-stream",
        compression_type: str = CompressionTypes.AUTO,
    ) -> Any:
        if not tf.io.gfile.exists(path):
            raise FileNotFoundError(path)  # as Beam's file systems do
        with tf.io.gfile.GFile(path, "rb") as file:
            return _packed(_Content(file.read()), path, compression_type)

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            tf.io.gfile.copy(source, target, overwrite=True)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.rename(source, target, overwrite=True)

    def exists(self, path: str) -> bool:
        return tf.io.gfile.exists(path)

    def size(self, path: str) -> int:
        return tf.io.gfile.stat(path).length

    def last_updated(self, path: str) -> float:
        return 0.0

    def checksum(self, path: str) -> str:
        return str(self.size(path))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            if tf.io.gfile.exists(path):
                (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)
            folder = path.rstrip("/").rpartition("/")[0]
            if tf.io.gfile.isdir(folder) and not tf.io.gfile.listdir(folder):
                tf.io.gfile.rmtree(folder)  # a store has none but those that something lies in


class _Content(io.BytesIO):
    mode = "rb"  # CompressedFile asks for it


def _packed(file: Any, path: str, compression_type: str) -> Any:
    if compression_type == CompressionTypes.AUTO:
        compression_type = CompressionTypes.detect_compression_type(path)
    return file if compression_type == CompressionTypes.UNCOMPRESSED else CompressedFile(file, compression_type)


def files(folder: str) -> list[str]:
    """All files below a folder, local or not."""
    return sorted(f"{parent.rstrip('/')}/{name}" for parent, _, names in tf.io.gfile.walk(folder) for name in names)


def upload(local: Path, remote: str) -> None:
    """Copies a local folder."""
    tf.io.gfile.makedirs(remote)
    for path in files(str(local)):
        target = remote + path.removeprefix(str(local))
        tf.io.gfile.makedirs(target.rpartition("/")[0])
        tf.io.gfile.copy(path, target)


@pytest.fixture
def ram(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder in memory. TensorFlow's takes every prefix of a path for a folder; this one does not."""
    names = ("GetChildren", "IsDirectory", "RenameFile", "DeleteRecursively")
    listed, is_folder, renamed, deleted = (getattr(_pywrap_file_io, name) for name in names)

    def children(folder: Any, *token: Any) -> list[str]:
        parent = tf.compat.as_str(folder).rstrip("/")
        return [name for name in listed(folder, *token) if tf.io.gfile.exists(f"{parent}/{name}")]

    def is_directory(path: Any, *token: Any) -> bool:
        text = tf.compat.as_str(path).rstrip("/")
        if not text.startswith("ram://"):
            return is_folder(path, *token)
        return is_folder(path, *token) and any(tf.io.gfile.glob(pattern) for pattern in (text, f"{text}/*"))

    def rename(source: Any, target: Any, overwrite: bool, *token: Any) -> None:
        old, new = (tf.compat.as_str(path) for path in (source, target))
        within = files(old) if old.startswith("ram://") and is_directory(old, None) else []
        for path in within:
            moved = new + path.removeprefix(old)
            tf.io.gfile.makedirs(moved.rpartition("/")[0])
            renamed(path, moved, overwrite, None)
        if within:
            delete(old)
        else:
            renamed(source, target, overwrite, *token)

    def delete(folder: Any, *token: Any) -> None:
        if not tf.compat.as_str(folder).startswith("ram://"):
            deleted(folder, *token)
            return
        for parent, _, names in list(tf.io.gfile.walk(folder, topdown=False)):
            for name in names:
                tf.io.gfile.remove(f"{parent.rstrip('/')}/{name}")
            with contextlib.suppress(tf.errors.OpError):  # of the folders only those that somebody made
                deleted(parent, *token)

    for name, function in zip(names, (children, is_directory, rename, delete), strict=True):
        monkeypatch.setattr(_pywrap_file_io, name, function)
    folder = f"ram://{uuid.uuid4().hex}"
    tf.io.gfile.makedirs(folder)
    yield folder
    tf.io.gfile.rmtree(folder)
