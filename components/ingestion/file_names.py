"""What names say about files and folders: left behind by a system, surely no image, or claiming to be one.

Whether a file is an image is decided by its content. Names save opening what is known not to be one, such as a video of
some GB, and tell a broken image from a file that was never meant to be one.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Iterable, Sequence

import pathspec

from core.artifacts.ingest_record import NO_PICTURE, Reject
from core.errors import InputError

HIDDEN = "hidden"
SYSTEM = "left behind by a system"
DESCRIBES = "describes the data"
_IGNORED_BY = "data.ignore: "
_SIDECAR = "beside a picture of its name: "
_SHOWN = 5

_SYSTEM_NAMES = frozenset({
    # macOS (what starts with a dot is hidden anyway)
    "__macosx", "icon\r", "network trash folder", "temporary items", "desktop db", "desktop df",
    # Windows
    "$recycle.bin", "system volume information", "found.000", "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "picasa.ini",
    # Linux
    "lost+found", "__pycache__",
    # NAS: Synology, QNAP, NetApp
    "@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", "~snapshot",
})  # fmt: skip
"""In lower case."""

_PICTURES = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "bmp", "dib", "webp", "tif", "tiff", "avif", "avifs", "heic",
    "heics", "heif", "heifs", "hif", "jp2", "j2k", "jpf", "jpx", "jxl", "jxr", "wdp", "mpo", "ppm", "pgm", "pbm",
    "pnm", "pam", "svg", "eps", "ico", "icns", "psd", "psb", "xcf", "tga", "dcm", "exr", "hdr", "fits", "pcx", "raw",
    "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "srw", "pef", "rwl", "3fr",
    "iiq", "x3f", "erf", "mrw", "kdc", "dcr", "svs", "ndpi",
})  # fmt: skip
_NO_PICTURES = frozenset({
    "json", "jsonl", "ndjson", "geojson", "txt", "text", "md", "markdown", "rst", "log", "xml", "xmp", "aae", "plist",
    "csv", "tsv", "xls", "xlsx", "ods", "parquet", "arrow", "feather", "yaml", "yml", "toml", "ini", "cfg", "conf",
    "htm", "html", "css", "pdf", "doc", "docx", "odt", "rtf", "ppt", "pptx", "odp", "tex", "bib", "url", "lnk",
    "webloc", "db", "sqlite", "py", "ipynb", "sh", "bat", "js", "dvc", "md5", "sha1", "sha256", "sfv",
    "thm", "pp3", "dop", "lrv", "mov", "mp4", "m4v", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "3gp", "3g2",
    "mts", "m2ts", "ogv", "insv", "mp3", "wav", "m4a", "aac", "flac", "ogg",
})  # fmt: skip
_READ_ME = re.compile(r"(readme|read-me|licen[cs]e|copying|notice|authors|changelog|citation|credits)([._-].*)?", re.I)
_ENDING = re.compile(r"\.[a-z0-9]{1,10}", re.I)


def passed_over(name: str) -> str:
    """Why a file or folder of this name is ignored with everything in it; "" if it is not."""
    if name.lower() in _SYSTEM_NAMES:
        return SYSTEM
    return HIDDEN if name.startswith(".") else ""


def claims_picture(path: str) -> bool:
    """Whether its extension is that of an image, of whatever format."""
    return _ending(path) in _PICTURES


def is_no_picture(path: str) -> bool:
    """Whether a file's name says that it is no image: it describes images, or is a text, a video or the like."""
    return not claims_picture(path) and (_ending(path) in _NO_PICTURES or is_read_me(path))


def no_picture(path: str, content: str = "") -> str:
    """The reason why such a file is ignored; `content` says what it is by its content, where that is known."""
    return NO_PICTURE + ("a read-me or license file" if is_read_me(path) else content or kind(path))


def reasons(others: Sequence[str], pictures: Iterable[str]) -> list[str]:
    """Why each of `others`, files that are not images, is ignored: most lie beside an image, such as `1.jpg.json`."""
    if not others:
        return []
    names = {name for path in pictures for name in (path, path.rpartition(".")[0])}
    return [_SIDECAR + kind(path) if names & _stems(path) else no_picture(path) for path in others]


def _stems(path: str) -> set[str]:
    folder, slash, name = path.rpartition("/")
    parts = name.split(".")
    return {folder + slash + ".".join(parts[:end]) for end in range(1, len(parts)) if parts[0]}


def kind(path: str) -> str:
    """A file's extension in lower case, or that it has none."""
    ending = _ending(path)
    return f".{ending}" if ending else "without an ending"


def kinds(paths: Iterable[str]) -> str:
    """How many files of which kinds: `60 .txt, 2 .md`, the most frequent first."""
    return tally(collections.Counter(map(kind, paths)))


def tally(counts: collections.Counter[str]) -> str:
    """The most frequent few, with their counts."""
    shown = [f"{number:,} {name}" for name, number in counts.most_common(_SHOWN)]
    more = counts.total() - sum(number for _, number in counts.most_common(_SHOWN))
    return ", ".join(shown) + (f" and {more:,} others" if more else "")


def ignored_in_words(ignored: Iterable[Reject]) -> str:
    """What was ignored except hidden files and descriptions: reasons, most frequent first, each with an example."""
    examples: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    for one in ignored:
        if one.reason != DESCRIBES and (one.reason != HIDDEN or one.path.endswith("/")):
            examples.setdefault(one.reason, one.path)
            counts[one.reason] += 1
    return tally(collections.Counter({f"{reason} ({examples[reason]})": n for reason, n in counts.items()}))


def _ending(path: str) -> str:
    name, dot, ending = path.rpartition("/")[2].rpartition(".")
    return ending.lower() if name and _ENDING.fullmatch(dot + ending) else ""


def is_read_me(path: str) -> bool:
    """Whether it is a file that describes a data set to people."""
    return _READ_ME.fullmatch(path.rpartition("/")[2]) is not None


def as_pattern(path: str) -> str:
    """A pattern of `data.ignore` that matches a path, for messages: `?` replaces what globs or YAML read otherwise."""
    return re.sub(r'[*?\[\\"]', "?", path)


class IgnorePatterns:
    """`data.ignore`: globs of paths relative to the data folder, as in a .gitignore file.

    A glob without an inner slash matches names at any depth; one that ends in a slash matches folders; `**` matches any
    number of folders.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = list(patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def reason(self, path: str) -> str:
        """Why a file, or a folder (with `/` at its end), is ignored; "" if it is not."""
        if not self._patterns:
            return ""
        found = self._spec.check_file(path)
        return _IGNORED_BY + self._patterns[found.index] if found.include and found.index is not None else ""

    def unmatched(self, ignored: Iterable[str]) -> list[str]:
        """The patterns that match none of the ignored paths."""
        paths = list(ignored)
        alone = {pattern: _compiled((pattern,)) for pattern in self._patterns if not pattern.startswith("!")}
        return [pattern for pattern, spec in alone.items() if not any(map(spec.match_file, paths))]

    @property
    def _spec(self) -> pathspec.GitIgnoreSpec:
        return _compiled(tuple(self._patterns))


@functools.lru_cache
def _compiled(patterns: tuple[str, ...]) -> pathspec.GitIgnoreSpec:
    """`#` begins a comment in a .gitignore file, but also the names of many folders."""
    lines = [
        "\\" + pattern if pattern.startswith("#") else pattern.replace("./", "/", pattern.startswith("./"))
        for pattern in patterns
    ]
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:
        raise InputError(f"data.ignore: {', '.join(patterns)}: not as in a .gitignore file: {error}") from error
