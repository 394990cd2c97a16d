"""The files below a data folder, local or remote: lists them, tells whether any has changed, and reads them.

Remote folders (`gs://`, `s3://`) are listed in one call for the whole tree (`core.storage`), where TFX's `fileio` would
ask for every file.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from components.ingestion.file_names import IgnorePatterns, as_pattern, claims_picture, is_no_picture, passed_over
from components.ingestion.image_reading import RejectedError
from core import storage
from core.artifacts.ingest_record import Reject
from core.errors import InputError, some
from core.image_limits import DEFAULT_LIMITS, ImageLimits
from core.settings.data import Links

METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
"""Ignored in the data folder even where no setting names them: the image-folder convention's names."""

OUTSIDE = "it is a link out of the data folder"
_FOLLOWED = "; data.links: follow reads it"
_ENCLOSING = "it is a link to a folder it is in"
_MOST_WAYS = 100  # that lead to one folder: links within linked folders double them with every level
_MOST_ROOTS = 5
_MAX_TABLE = 2**30  # bytes: of a million images, a table has some 100 MB


class ListedFile(NamedTuple):
    """One file below the data folder: what is known without opening it.

    Attributes:
        path: relative to the data folder, with `/`.
        state: size, times of change and link target, for the fingerprint.
        label: the class that the layout gives it; likewise the split.
    """

    path: str
    state: str = ""
    problem: str = ""
    label: str = ""
    split: str = ""


class DataFolder(str):
    """The path or URL of a data folder, and the folders outside of it into which its links may lead."""

    roots: tuple[str, ...] = ()

    @classmethod
    def linked_to(cls, path: str, roots: Iterable[str]) -> DataFolder:
        """The same folder, whose links may lead into these folders."""
        folder = cls(path)
        folder.roots = tuple(roots)
        return folder


class Tree(NamedTuple):
    """Everything below a data folder, sorted by path; a folder `ignored` with all its content is a single entry."""

    folder: DataFolder
    files: list[ListedFile]
    folders: list[str]
    ignored: list[Reject]


def walk(folder: str, ignore: Sequence[str] = (), links: Links = "inside") -> Tree:
    """Lists everything below a folder; nothing is opened.

    Skips what is hidden, left behind by a system or named in `ignore` (globs: `file_names.IgnorePatterns`). `links` is
    `data.links`. Links within the folder are followed, unless that is `refuse`; links to files outside of it, and links
    back to a folder that contains them, have a problem.

    Raises:
        InputError: there is no such folder, or one in it cannot be listed, has a name that is not UTF-8, or is a link
            out of the data folder where `links` does not allow it.
    """
    patterns = IgnorePatterns(ignore)
    return _walk_remote(folder, patterns) if storage.is_remote(folder) else _walk_local(folder, patterns, links)


def _walk_local(folder: str, patterns: IgnorePatterns, links: Links) -> Tree:
    if not Path(folder).is_dir():
        raise InputError(f"The data folder {folder} does not exist.")
    root = os.path.realpath(folder)
    files: list[ListedFile] = []
    folders: list[str] = []
    ignored: list[Reject] = []
    linked: dict[str, str] = {}  # links that `data.links` does not allow, and where they lead
    outside_files = 0
    broken: dict[str, str] = {}
    roots: set[str] = set()
    ways: collections.Counter[str] = collections.Counter()
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (root,))]
    while waiting:
        relative, real_folders = waiting.pop()
        try:
            items = list(os.scandir(real_folders[-1]))
        except OSError as error:
            way = f' or set data.ignore to ["/{as_pattern(relative)}"], which passes over it' if relative else ""
            raise InputError(
                f"The folder {folder}/{relative} cannot be listed: {error.strerror}. Make it readable{way}."
            ) from error
        for item in items:
            path = relative + printable(item.name)
            named = printable(item.name) == item.name
            try:
                info, missing = item.stat(), ""
            except OSError as failed:  # A broken link; reading it says why.
                info, missing = None, str(failed.strerror)
            is_folder = info is not None and stat.S_ISDIR(info.st_mode)
            shown = f"{path}/" if is_folder else path
            if why := passed_over(item.name) or patterns.reason(shown):
                ignored.append(Reject(shown, "", "find", why))
                continue
            real = os.path.realpath(item.path) if item.is_symlink() else ""
            if real and links == "refuse":
                linked[path] = real
            outside = bool(real) and not is_within(real, root)
            if info is None:
                broken[path] = real
                files.append(ListedFile(path, missing))
                continue
            if not is_folder:
                problem = "" if named else "its name is not UTF-8"
                if outside:
                    roots.add(str(Path(real).parent))
                if outside and links != "follow":
                    outside_files += 1
                    problem = f"{OUTSIDE}, to {real}{_FOLLOWED}"
                files.append(ListedFile(path, f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {real}", problem))
                continue
            if not named:
                raise InputError(f"The folder {path} in {folder} has a name that is not UTF-8. Rename it.")
            real = real or f"{real_folders[-1]}/{item.name}"
            if real in real_folders or is_within(root, real):
                files.append(ListedFile(path, problem=_ENCLOSING))
                continue
            if outside and links == "follow":
                roots.add(real)
            elif outside:
                linked[path] = real
            ways[real] += 1
            if ways[real] > _MOST_WAYS:
                raise InputError(
                    f"More than {_MOST_WAYS} paths in {folder} lead to the folder {real}, as {path}: links within "
                    "linked folders. Remove those links, or pass over them with data.ignore."
                )
            folders.append(path)
            waiting.append((f"{path}/", (*real_folders, real)))
    if linked:
        raise _not_allowed(folder, linked, links)
    _check_broken(folder, broken, files, folders)
    if outside_files > len(files) / 2:
        raise InputError(
            f"{outside_files:,} of {len(files):,} files in {folder} are links out of it, into "
            f"{', '.join(_together(roots))}. Set data.links to follow to have them read."
        )
    allowed = _together(roots) if links == "follow" else ()
    return Tree(DataFolder.linked_to(folder, allowed), sorted(files), sorted(folders), ignored)


def _check_broken(folder: str, broken: dict[str, str], files: Sequence[ListedFile], folders: Iterable[str]) -> None:
    """Raises InputError if most files are broken links, or if broken links seem to be folders, such as a class."""
    parents = {path.rpartition("/")[0] for path in folders}
    lost = {
        path: real
        for path, real in broken.items()
        if path.rpartition("/")[0] in parents and not (claims_picture(path) or is_no_picture(path))
    }
    shown = some([f"{path} -> {real}" for path, real in sorted((lost or broken).items())])
    if lost:
        raise InputError(
            f"{folder} holds links beside its folders that lead nowhere: {shown}. Bring back what they led to, or "
            f'remove them; data.ignore: ["/{as_pattern(min(lost))}"] passes over the first.'
        )
    if len(broken) > len(files) / 2:
        raise InputError(
            f"{len(broken):,} of {len(files):,} files in {folder} are links to files that are not there: {shown}. "
            "Fetch them (git annex get, dvc pull), or mount the store that they are in."
        )


def _not_allowed(folder: str, linked: dict[str, str], links: Links) -> InputError:
    shown = some([f"{path} -> {real}" for path, real in sorted(linked.items())])
    if links == "refuse":
        return InputError(
            f"{folder} holds {len(linked):,} links, and data.links is refuse: {shown}. Put the files themselves there, "
            "or set data.links to inside or follow."
        )
    first = min(linked)
    return InputError(
        f"{folder} holds folders that are links out of it: {shown}. Set data.links to follow if they belong to the "
        f'data; if not, data.ignore to ["/{as_pattern(first)}"] passes over the first.'
    )


def is_within(path: str, folder: str) -> bool:
    """Whether a real path is a folder's, or that of something in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _together(roots: Iterable[str]) -> list[str]:
    """The outermost of some folders; if they are many, as in a content-addressed store, their parent folders."""
    found = sorted(roots)
    while True:
        outermost: list[str] = []
        for root in sorted(found):
            if not outermost or not is_within(root, outermost[-1]):
                outermost.append(root)
        if len(outermost) <= _MOST_ROOTS:
            return outermost
        deepest = max(root.count("/") for root in outermost)
        found = [str(Path(root).parent) if root.count("/") == deepest else root for root in outermost]


def find_remote(folder: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Paths, relative to a remote folder, of everything below it that begins with the prefix; with sizes and times.

    A bucket's time of change is that of the object's last upload; moving or copying counts as one, too.

    Raises:
        InputError: the store does not list it.
    """
    try:
        for found in storage.find(folder, prefix):
            yield found.path, f"{found.size} {found.uploaded}"
    except storage.StoreError as error:
        raise InputError(f"The data folder {error}") from error


def _walk_remote(folder: str, patterns: IgnorePatterns) -> Tree:
    files: list[ListedFile] = []
    folders: set[str] = set()
    ignored: dict[str, str] = {}
    for path, state in find_remote(folder):
        parts = path.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        paths = [f"{one}/" for one in above] + ([path] if parts[-1] else [])  # an object `x/` stands for a folder
        for name, one in zip(parts, paths, strict=False):
            if one not in ignored and (why := passed_over(name) or patterns.reason(one)):
                ignored[one] = why
            if one in ignored:
                break
        else:
            folders.update(above)
            if parts[-1]:
                files.append(ListedFile(path, state))
    if not files:
        raise InputError(f"The data folder {folder} does not exist, or is empty.")
    passed = [Reject(path, "", "find", why) for path, why in ignored.items()]
    return Tree(DataFolder(folder), sorted(files), sorted(folders), passed)


def fingerprint(folder: str, files: Sequence[ListedFile], read: Iterable[str] = ()) -> str:
    """A text that changes when any file is added, removed, renamed, moved to another class or rewritten.

    TFX's own adds up sizes and full seconds, so it misses an image that moved to another class. The files `read`, which
    describe the data, count by their content.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path}\0{file.state}\n".encode())
    for name in read:
        digest.update(read_bytes_of(folder, name))
    return f"files:{len(files)},sha256:{digest.hexdigest()}"


def read_file(folder: str, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of one file, at most one more than allowed; raises RejectedError for a larger local file."""
    with open_file(folder, path) as file:
        if storage.is_remote(folder):
            return file.read(limits.file_bytes + 1)
        with opening():
            size = os.fstat(file.fileno()).st_size
            if size > limits.file_bytes:
                raise RejectedError("limits", f"{size:,} bytes are more than {limits.max_file_mb:g} MB")
            return file.read()


def read_head(folder: str, path: str, size: int) -> bytes | None:
    """The first bytes of a file, at most `size`; None where it cannot be opened."""
    try:
        with open_file(folder, path) as file, opening():
            return file.read(size)
    except RejectedError:
        return None


def open_file(folder: str, path: str) -> BinaryIO:
    """A file below the data folder, open for reading its bytes as they are, whatever its name ends in.

    Raises:
        RejectedError: a local file is a link out of the folder (and of a DataFolder's roots), not a regular file, or
            cannot be opened. If a remote store does not answer, that says nothing about the file: such errors are
            raised unchanged, and stop the run once Beam has retried.
    """
    if storage.is_remote(folder):
        return storage.open_bytes(f"{folder}/{path}")
    with opening():
        real = os.path.realpath(f"{folder}/{path}", strict=True)
        if not any(is_within(real, root) for root in (os.path.realpath(folder), *getattr(folder, "roots", ()))):
            raise RejectedError("open", f"{OUTSIDE}, to {real}")
        mode = Path(real).stat().st_mode
        if not stat.S_ISREG(mode):  # Reading a pipe would wait forever.
            raise RejectedError("open", "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
        return Path(real).open("rb")


def read_anywhere(location: str, limits: ImageLimits) -> bytes:
    """Like `read_file`, for a path or URL outside of any data folder, or a link; any failure is a RejectedError."""
    with opening():
        real = location if storage.is_remote(location) else os.path.realpath(location, strict=True)
        return read_file(*os.path.split(real), limits)


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Turns errors of a file into reasons to reject it."""
    try:
        yield
    except OSError as error:  # Beam's BeamIOError is one, without strerror
        reason = "a link that leads to itself" if error.errno == errno.ELOOP else error.strerror or error
        raise RejectedError("open", f"it cannot be opened: {reason}") from error


def read_bytes_of(folder: str, name: str, most: int = _MAX_TABLE) -> bytes:
    """The bytes of a file that describes the data, such as metadata.csv. Raises InputError if it cannot be read.

    Likewise if there are more than `most` bytes.
    """
    where = f"{folder}/{name}"
    if not storage.is_remote(folder) and not os.path.lexists(where):
        raise InputError(f"There is no {where}.")
    try:
        with opening(), open_file(folder, name) as file:
            data = file.read(most + 1)
    except RejectedError as error:
        way = _FOLLOWED if error.reason.startswith(OUTSIDE) else ""
        raise InputError(f"{where} cannot be read: {error.reason}{way}.") from error
    if len(data) > most:
        raise InputError(f"{where} has more than {most:,} bytes; what describes images is smaller. Take it away.")
    return data


def read_text(folder: str, name: str, most: int = _MAX_TABLE) -> str:
    """The text of such a file. Raises InputError also if it is not UTF-8."""
    try:
        return read_bytes_of(folder, name, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{folder}/{name} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error


def printable(name: str) -> str:
    """The name, with any bytes that are not UTF-8 spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
