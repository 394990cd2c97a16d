"""What ImageExampleGen leaves: properties of its examples, and a record of what it read, rejected and found double."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from core.artifacts.base import Artifact, JsonFile, JsonLines

EXAMPLES = Artifact("ImageExampleGen", "examples")

RECORD = Artifact("ImageExampleGen", "rejects")
"""A File: Vertex AI knows no types of ours. Holds `COUNTS`, `IGNORED`, `REJECTS`, `LEFT_OUT` and `DUPLICATES`."""

REGRESSION_EXAMPLES = Artifact("RegressionExampleGen", "examples")  # of the images of `evaluation.regressions`

CONTENT_SHA256 = "content_sha256"
"""Property of the examples: SHA-256 of all images' paths, contents and classes; the same for any copy of the data."""

SPANS = "spans"  # property of the examples: JSON, a `Span` for each that was read


def count_property(split: str) -> str:
    """Property of the examples: how many a split has, for later stages to tell how far they are."""
    return f"examples_{split}"


@dataclasses.dataclass(frozen=True, order=True)
class Span:
    """A span of the data.

    Attributes:
        span: its number, or that of its day since 1970.
        version: None where the pattern of the folders has no `{VERSION}`.
        folder: relative to the folder before the first spec.
    """

    span: int
    version: int | None
    folder: str


def spans_of(properties: Mapping[str, Any]) -> list[Span]:
    """The spans that the examples with these properties were read from, oldest first."""
    return msgspec.json.decode(str(properties.get(SPANS, "[]")), type=list[Span])


def spans_property(spans: Iterable[Span]) -> str:
    """What `SPANS` holds."""
    return msgspec.json.encode(list(spans)).decode()


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Images of one class by split, how many files of it could not be used, and how many good images were left out."""

    splits: dict[str, int]
    rejected: int
    left_out: int = 0


NO_END, INVISIBLE, FEW_BITS, MORE_BITS = "no_end", "invisible", "few_bits", "more_bits"
"""What is odd about images that are read: a JPEG without its end marker; all transparent; of 16 bits few are used,
or more than `data.stretch`."""


@dataclasses.dataclass(frozen=True)
class Oddity:
    """What is odd about some images.

    Attributes:
        images: how many they are.
        most: the largest value that was found.
        paths: of the first few.
    """

    images: int
    most: int
    paths: list[str]


@dataclasses.dataclass(frozen=True)
class IngestCounts:
    """What became of the files found. Files of many images count as these.

    Attributes:
        found: the sum of the next four.
        ignored: what was passed over, a folder with all in it as one; files that describe the data or are no pictures.
        left_out: good images that are in no split, `LEFT_OUT`.
        read: images; the sum of the splits.
        duplicates: images that show the same as another, exactly or nearly.
        ignored_by: how many were ignored, by reason.
        linked_to: folders outside of the data folder that links lead to.
        remarks: what was guessed of the layout, or is odd in it.
        oddities: of images that are read, by kind, such as `NO_END`.
    """

    found: int
    ignored: int
    rejected: int
    left_out: int
    read: int
    splits: dict[str, int]
    duplicates: int
    layout: str
    given: list[str]
    classes: dict[str, ClassCounts]
    ignored_by: dict[str, int] = dataclasses.field(default_factory=dict)
    linked_to: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)
    oddities: dict[str, Oddity] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, order=True)
class Reject:
    """A file, or one image of a TFRecord file, that is not used; or a file or folder that is ignored.

    Attributes:
        path: relative to the data folder; with `#` and the record's number for one of many images; with `/` at the end
            for a folder.
        label: its class; empty where that is not known.
        stage: `find`, `open`, `identify`, `limits` or `decode`; of images that are left out `CONTRADICTING` or
            `SMALL_CLASS`.
    """

    path: str
    label: str
    stage: str
    reason: str


Kind = Literal["identical", "near", "group", "chain"]

SAME = ("identical", "near")
"""The kinds of groups of images that show the same."""


@dataclasses.dataclass(frozen=True)
class DuplicateGroup:
    """Images that show the same, or that are one group in several of the splits that the layout gives.

    Attributes:
        kind: `identical` pixels, `near`-duplicates (of which some may be identical), `group`: the same value of
            `data.group_by`, or `chain`: images that near-duplicates tie together by way of others, too many for one
            split, of which each `near` group has a part.
        paths: sorted; labels and splits are theirs.
    """

    kind: Kind
    paths: list[str]
    labels: list[str]
    splits: list[str]

    @property
    def contradicts(self) -> bool:
        """Whether what seems the same image has several labels; a group and a chain may."""
        return self.kind in SAME and len(set(self.labels)) > 1

    @property
    def leaks(self) -> bool:
        """Whether it is in several splits; a chain is divided among them."""
        return self.kind != "chain" and len(set(self.splits)) > 1


COUNTS = JsonFile("counts.json", IngestCounts)

REJECTS = JsonLines("rejects.jsonl", Reject)  # sorted by path

IGNORED = JsonLines("ignored.jsonl", Reject)  # sorted by path

NO_PICTURE = "no picture: "
"""What the reasons of ignored files begin with that are no pictures, and lie beside none of their name."""
LEFT_OUT = JsonLines("left_out.jsonl", Reject)  # sorted by path: good images that are in no split, and why

CONTRADICTING, SMALL_CLASS = "contradicting", "small_class"
"""Stages of images that are left out: identical ones have other labels; their class is small (`data.small_classes`)."""

DUPLICATES = JsonLines("duplicates.jsonl", DuplicateGroup)  # in the order of their first paths
