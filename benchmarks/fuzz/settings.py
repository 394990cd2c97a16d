"""Settings: files of YAML and overrides as of SET, both of which people write and other programs generate."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.target import Target, check_message, scratch_folder
from core.errors import InputError
from core.settings.loading import load, split_overrides
from core.settings.schema import schema

_FILE, _SET = b"file\n", b"set\n"
_GOOD = b"name: x\ndata: {images: photos}\n"
_CONFIGS = Path(__file__).parents[2] / "configs"
_TOKENS = [
    *b"{ } [ ] : , - & * ! | > ' \" % @ `".split(),
    *b"# ? = ~ .. // null true no 0 -1 1e999 .nan .inf 0x1F 1_000 2026-11-30".split(),
    *(b"\n", b"\n  ", b"\t", b" ", b"\0", b"\xff", "\u2028é\U0001f600".encode(), b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b"---\n", b"...\n", b"%YAML 1.1\n", b"&a ", b"*a ", b"<<: *a", b"!!binary ", b"!!python/object:os.system "),
    *(b"!!set {", b"!!omap [", b"!!timestamp ", b"? ", b"- ", b"[[[[[[", b"{a: {a: ", b"~/", b"gs://b/c", b"tfds:x"),
    *(b"&a [*a, *a]", b"- &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n", b"9" * 5000, b"1" + b"0" * 400, b"a" * 3000),
]


def _keys(kind: dict, prefix: str = "") -> list[str]:
    """The paths of all settings."""
    found = []
    for one in kind.get("anyOf", [kind]):
        for key, inner in one.get("properties", {}).items():
            found += [f"{prefix}{key}", *_keys(inner, f"{prefix}{key}.")]
    return found


class Settings(Target):
    """`load` of a file, or of a good file and overrides; an input's first line says which."""

    name = "settings"

    def __init__(self) -> None:
        self._keys = sorted(set(_keys(schema())))
        self._tokens = [*_TOKENS, *(key.rpartition(".")[2].encode() + b": " for key in self._keys)]
        self._folder = scratch_folder()
        self._path, self._good = (Path(self._folder.name, name) for name in ("given.yaml", "good.yaml"))
        self._good.write_bytes(_GOOD)
        self._seeds = self._made_seeds()

    def close(self) -> None:
        self._folder.cleanup()

    def seeds(self) -> list[bytes]:
        return self._seeds

    @staticmethod
    def _made_seeds() -> list[bytes]:
        in_file = [_GOOD, *(path.read_bytes() for path in sorted(_CONFIGS.glob("*.yaml")))]
        in_file += [
            b"name: a\ndata: &d\n  images: b\n  columns: {file_name: id}\nrun: *d\n",
            b'{"name": "a", "data": {"images": "b", "slices": ["x", "y"]}, "training": {"learning_rate": 0.1}}',
            b"name: x\ndata: {images: p}\nruntime: {beam: {engine: flink, job_endpoint: 'h:1', options: [--a=b]}}\n",
        ]
        in_set = [
            b"training.steps=5 data.layout=auto",
            b"training.learning_rate={boundaries: [400], values: [1.0e-3, 1.0e-4]}",
            b'runtime.beam=["--a=b c=d"] name="a b"',
            b"data={images: x, bounds: {leaked: 0}} evaluation.slices=[label, [label, size]]",
        ]
        return [_FILE + text for text in in_file] + [_SET + text for text in in_set]

    def make(self, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            pairs = [f"{chance.choice(self._keys)}=" for _ in range(chance.randint(1, 3))]
            return _SET + b" ".join(pair.encode() + self._value(chance) for pair in pairs)
        return mutated(self._seeds, chance, self._tokens)

    def _value(self, chance: random.Random, depth: int = 0) -> bytes:
        """YAML of any type."""
        if depth > 3 or chance.random() < 0.6:
            return chance.choice(self._tokens) if chance.random() < 0.5 else str(chance.uniform(-9, 9)).encode()
        inner = [self._value(chance, depth + 1) for _ in range(chance.randrange(4))]
        if chance.random() < 0.5:
            return b"[" + b", ".join(inner) + b"]"
        names = [chance.choice(self._keys).rpartition(".")[2].encode() for _ in inner]
        return b"{" + b", ".join(name + b": " + value for name, value in zip(names, inner, strict=True)) + b"}"

    def attempt(self, data: bytes) -> str:
        kind, _, text = data.partition(b"\n")
        try:
            if kind + b"\n" == _SET:
                load(self._good, split_overrides([text.decode(errors="surrogateescape")]))
            else:
                self._path.write_bytes(text)
                load(self._path)
        except InputError as error:
            check_message(str(error))
            return "refused"
        return "read"
