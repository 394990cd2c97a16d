"""Publishes files and folders: they appear complete and synced to disk, or not at all, locally and in object stores.

Everything that another process or a later run reads is published by this module. New content is written beside its
target, under a hidden name that is new and cannot be guessed, so that no link can redirect it; it is synced, renamed,
and the folder is synced. At every moment either the old or the new content is there. The writer holds a lock on the
hidden name, which distinguishes unfinished work from the remains of a killed process: the next writer deletes those.

Object stores (`gs://`, `s3://`) get a weaker promise: a file is replaced atomically, a folder is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, TextIO

from core import storage
from core.errors import InputError

_HIDDEN = re.compile(r"\.unfinished-[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_NOREPLACE, _EXCHANGE = 1, 2  # flags of Linux's renameat2
_HERE = -100  # AT_FDCWD


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[TextIO]:
    """Opens a UTF-8 file that replaces `path` when the block ends; if the block raises, the old file stays.

    Lone surrogates, which local file names may hold, are written as escapes; line ends are written as they are. A link
    is replaced, not followed.

    Raises:
        InputError: `path` exists and is not a regular file, or its folder does not exist.
        OSError: it cannot be written; `filename` is then `path`. StoreError for a remote one.
    """
    if storage.is_remote(path):
        with tempfile.TemporaryFile() as content:
            text = io.TextIOWrapper(content, encoding="utf-8", errors="backslashreplace", newline="")
            yield text
            text.detach().seek(0)
            storage.store(content, str(path))
        return
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file: give another name to write to")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} in: make it, or give another name")
    hidden = ""
    try:
        hidden, descriptor = _new_file(path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            Path(hidden).rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename == hidden or (error.filename is None and error.errno in _FULL):
            error.filename = str(path)
        raise
    finally:
        if hidden:
            Path(hidden).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Replaces a file's content atomically; see `replacing`."""
    with replacing(path) as file:
        file.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file that nobody reads yet, local or remote; not atomic."""
    if storage.is_remote(path):
        storage.store(io.BytesIO(content), str(path))
    else:
        Path(path).write_bytes(content)


def open_file(path: str | Path, mode: Literal["r", "rb"] = "r") -> IO[Any]:
    """Opens a file, local or remote, for reading. Text is UTF-8, and its line ends are read as they are.

    Raises:
        OSError: it cannot be opened; StoreError for a remote one.
    """
    if not storage.is_remote(path):
        return Path(path).open(mode) if "b" in mode else Path(path).open(mode, encoding="utf-8", newline="\n")
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        storage.fetch(str(path), content)
    except BaseException:
        content.close()
        raise
    content.seek(0)
    return content if "b" in mode else io.TextIOWrapper(content, encoding="utf-8", newline="\n")


def read_text(path: str | Path) -> str:
    """A file's text; see `open_file`."""
    with open_file(path) as file:
        return file.read()


@contextlib.contextmanager
def staging_directory(target: str) -> Iterator[str]:
    """Makes an empty directory beside `target`, to be filled and then published with `publish` within the block.

    If it is still there when the block ends, as after an error, it is deleted.
    """
    if storage.is_remote(target):
        import tensorflow as tf

        directory = _hidden_beside(target)
        tf.io.gfile.makedirs(directory)
        try:
            yield directory
        finally:
            if tf.io.gfile.exists(directory):
                tf.io.gfile.rmtree(directory)
        return
    folder = Path(target).absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    directory, descriptor = _new_folder(folder)
    try:
        yield directory
    finally:
        _delete(directory)
        os.close(descriptor)


def publish(finished: str, target: str, replace: bool = True) -> None:
    """Syncs a directory and moves it to `target`, replacing what is there.

    On Linux the two are exchanged atomically. If the file system cannot do that (some network file systems, macOS), the
    old one is renamed first, and for a moment neither is there.

    Raises:
        FileExistsError: `target` exists, and `replace` is False.
    """
    target = target.rstrip("/")
    if storage.is_remote(target):
        import tensorflow as tf

        if tf.io.gfile.exists(target):
            if not replace:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            tf.io.gfile.rmtree(target)
        tf.io.gfile.rename(finished, target)
        return
    sync(finished)
    if os.path.lexists(target):
        if not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        if _renameat2(finished, target, _EXCHANGE):
            _sync_folder(Path(target).parent)
            _delete(finished)
            return
        discard(target)
    if not _renameat2(finished, target, _NOREPLACE):
        Path(finished).rename(target)
    _sync_folder(Path(target).parent)


def move(source: Path, target: Path) -> None:
    """Renames a file or folder within a file system atomically, and syncs both folders.

    Raises:
        FileExistsError: `target` exists.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if not _renameat2(str(source), str(target), _NOREPLACE):
        source.rename(target)
    _sync_folder(target.parent)
    _sync_folder(source.parent)


def discard(path: str | Path) -> None:
    """Removes a file or folder: it disappears atomically, then its content is deleted. A link is not followed."""
    path = Path(path)
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        _sync_folder(path.parent)
        return
    hidden = _hidden_beside(str(path))
    path.rename(hidden)
    _sync_folder(path.parent)
    _delete(hidden)


def sync(directory: str) -> None:
    """Syncs all files and folders in a local directory to disk; does nothing for a remote one."""
    if storage.is_remote(directory):
        return
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        _sync_folder(Path(folder))


def clear_remains(folder: Path) -> None:
    """Deletes what killed processes left in a folder under hidden names; not what is being written."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if _HIDDEN.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):  # somebody else's, or just gone: costs no one's write
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _delete(entry.path)
                finally:
                    os.close(descriptor)


def _hidden_beside(path: str) -> str:
    folder, slash, _ = path.rstrip("/").rpartition("/")
    return f"{folder}{slash}.unfinished-{uuid.uuid4().hex}"


def _new_file(folder: Path) -> tuple[str, int]:
    """A hidden file and its descriptor, which holds its lock."""
    clear_remains(folder)
    while True:
        hidden = _hidden_beside(str(folder / "file"))
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        if _hold(descriptor, hidden):
            return hidden, descriptor
        os.close(descriptor)


def _new_folder(folder: Path) -> tuple[str, int]:
    """A hidden folder and a descriptor that holds its lock."""
    clear_remains(folder)
    while True:
        hidden = _hidden_beside(str(folder / "folder"))
        Path(hidden).mkdir()
        try:
            descriptor = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # `clear_remains` of another process was faster
        if _hold(descriptor, hidden):
            return hidden, descriptor
        os.close(descriptor)


def _hold(descriptor: int, path: str) -> bool:
    """Locks what was just made; False if `clear_remains` of another process was faster."""
    with contextlib.suppress(OSError):  # a file system without locks, where remains are never cleared
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return Path(path).lstat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _delete(path: str) -> None:
    """Deletes a file or folder, even while another process deletes it."""

    def unless_gone(_function: object, _path: object, info: Any) -> None:
        if not isinstance(info[1], FileNotFoundError):
            raise info[1]

    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path, onerror=unless_gone)
    else:
        Path(path).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Syncs the names in a folder to disk, as far as its file system supports and permits that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


def _renameat2(source: str, target: str, flag: int) -> bool:
    """Renames with Linux's renameat2; False if the call or the flag is not supported.

    Raises:
        OSError: renaming failed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_SUCH_CALL:
        return False
    raise OSError(code, os.strerror(code), source, None, target)
