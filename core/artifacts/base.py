"""What the modules of the catalog share: where an artifact comes from, and versioned JSON files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from core import atomic_io
from core.errors import InputError
from core.settings.converter import to_dict

T = TypeVar("T")

_AGAIN = 'run the pipeline with SET="runtime.cache=false"'  # a cached stage would not write its files again


class Artifact(NamedTuple):
    """An output of a pipeline node, as ML Metadata knows it."""

    node: str
    output: str


def split_dir(uri: str, split: str) -> str:
    """The folder of a split under the URI of examples or statistics, as TFX lays it out."""
    return f"{uri.rstrip('/')}/Split-{split}"


class _File(Generic[T]):
    def __init__(self, name: str, content: type[T]) -> None:
        """`name` is relative to the folder of the file; `content` is a dataclass."""
        self.name = name
        self.content = content

    def path(self, folder: str | Path) -> str:
        """The file's path in a folder, local or remote."""
        return f"{str(folder).rstrip('/')}/{self.name}"


class JsonFile(_File[T]):
    """A JSON file that stages, reports or people exchange; its content is a dataclass.

    `schema_version` precedes the fields of the dataclass. NaN and infinity are written as null.
    """

    def __init__(self, name: str, content: type[T], schema_version: int = 1) -> None:
        super().__init__(name, content)
        self.schema_version = schema_version

    def write(self, folder: str | Path, value: T) -> None:
        """Replaces the file atomically."""
        document = {"schema_version": self.schema_version, **to_dict(value)}
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        atomic_io.write_text(self.path(folder), text + "\n")

    def read(self, folder: str | Path) -> T:
        """The file's content.

        Raises:
            InputError: the file is damaged, or another version of this project wrote it.
            OSError: there is no such file; StoreError if a remote one cannot be read.
        """
        path = self.path(folder)
        try:
            document = msgspec.json.decode(atomic_io.read_text(path))
            version = document.get("schema_version") if isinstance(document, dict) else None
            if version != self.schema_version:
                raise InputError(
                    f"{path} has schema_version {version}, expected {self.schema_version}: another version of this "
                    f"project wrote it; {_AGAIN}"
                )
            return msgspec.convert(document, self.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
            raise InputError(f"{path} is damaged: {error}; {_AGAIN}") from error

    def read_if_any(self, folder: str | Path) -> T | None:
        """The file's content; None if there is no such file."""
        try:
            return self.read(folder)
        except FileNotFoundError:
            return None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the file."""
        schema = msgspec.json.schema(self.content)
        name = schema["$ref"].rsplit("/", 1)[1]
        described = schema["$defs"][name]
        described["properties"] = {"schema_version": {"const": self.schema_version}, **described["properties"]}
        described["required"] = ["schema_version", *described.get("required", [])]
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": self.name, **schema}


class JsonLines(_File[T]):
    """A file with one JSON object per line, all of one dataclass; streamed, so it may be of any length."""

    def write(self, folder: str | Path, entries: Iterable[T]) -> None:
        """Replaces the file atomically."""
        with atomic_io.replacing(self.path(folder)) as file:
            for entry in entries:
                file.write(msgspec.json.encode(to_dict(entry)).decode() + "\n")

    def read(self, folder: str | Path) -> Iterator[T]:
        """The entries, one at a time.

        Raises:
            InputError: the file is damaged.
            OSError: there is no such file; StoreError if a remote one cannot be read.
        """
        path = self.path(folder)
        decoder = msgspec.json.Decoder(self.content)
        with atomic_io.open_file(path) as file:
            try:
                yield from (decoder.decode(line) for line in file)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InputError(f"{path} is damaged: {error}; {_AGAIN}") from error
