"""Tables of labels, splits and slices beside images: CSV in its dialects and encodings, and JSON lines."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.target import Target, check_message, scratch_folder
from components.ingestion.image_layout import read_layout
from core.errors import InputError
from core.settings.data import DataSettings

_CONFIG = DataSettings("photos").ingestion({})
_NAMES = (b"metadata.csv", b"metadata.tsv", b"metadata.jsonl", b"train.csv", b"labels.ndjson")
_CSV = "file_name,label,split,camera\nimg/1.png,owl,train,a\nimg/2.png,wren,test,b\nimg/3.png,owl,,c\n4.png,wren,val,\n"
_JSON = (
    b'{"file_name": "img/1.png", "label": "owl", "n": 1}\n{"file_name": "img/2.png", "label": "wren"}\n'
    b'{"file_name": "img/3.png", "label": "owl", "n": null}\n'
)
_TOKENS = [
    *b', ; | " \' " "" sep=; file_name label split id'.split(),
    *b"class train val test is_test NaN None null true [] {} 1e999".split(),
    *(b"\t", b"\n", b"\r", b"\r\n", b"\0", b" ", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"),
    *(b"img/1.png", b"../../etc/passwd", b"/img/1.png", b"C:\\img\\1.png", b"=HYPERLINK(1)", b"\x1b[31m", b"[" * 2000),
    *(
        "\u2028é\u202e\U0001f600".encode(),
        b'{"a": ',
        b"\\ud800",
        b"\\u0000",
        b"9" * 5000,
        b"a" * 140_000,
        b"1\n" * 2000,
    ),
]


class Tables(Target):
    """`read_layout` of four images and a table; an input's first line is the table's name."""

    name = "tables"

    def __init__(self) -> None:
        self._folder = scratch_folder()
        self._path = Path(self._folder.name)
        (self._path / "img").mkdir()
        for number in range(1, 5):
            (self._path / "img" / f"{number}.png").touch()
        self._seeds = [name + b"\n" + text for name in _NAMES for text in self._texts(name)]

    def close(self) -> None:
        self._folder.cleanup()

    @staticmethod
    def _texts(name: bytes) -> list[bytes]:
        if name.endswith((b".jsonl", b".ndjson")):
            return [_JSON, b"\xef\xbb\xbf" + _JSON, _JSON.decode().encode("utf-16")]
        other = _CSV.replace(",", "\t" if name.endswith(b".tsv") else ";")
        quoted = '"id","class"\r\n"1","an ""owl"""\r\n"2","wren\nor so"\r\n"3","owl"\r\n'
        return [
            _CSV.encode(),
            other.encode("cp1252"),
            other.encode("utf-16"),
            f"sep=;\n{other}".encode(),
            quoted.encode(),
        ]

    def seeds(self) -> list[bytes]:
        return self._seeds

    def make(self, chance: random.Random) -> bytes:
        name, _, text = mutated(self._seeds, chance, _TOKENS).partition(b"\n")
        return (name if name in _NAMES else chance.choice(_NAMES)) + b"\n" + text

    def attempt(self, data: bytes) -> str:
        name, _, text = data.partition(b"\n")
        path = self._path / (name if name in _NAMES else _NAMES[0]).decode()
        path.write_bytes(text)
        try:
            listing = read_layout(str(self._path), _CONFIG)
            listing.classes(), listing.fingerprint()
            check_message(listing.describe())
            check_message(" ".join(["read as follows", *listing.notes(), *listing.remarks]))
        except InputError as error:
            check_message(str(error))
            return "refused"
        finally:
            path.unlink()
        return "read" if any(not file.problem for file in listing.files) else "read, and every file rejected"
