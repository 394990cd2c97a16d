"""What ImageExampleGen writes: properties of its examples, and a record of what it read, rejected and found twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from core.artifacts.base import Artifact, JsonFile, JsonLines

EXAMPLES = Artifact("ImageExampleGen", "examples")

RECORD = Artifact("ImageExampleGen", "rejects")
"""A File, since Vertex AI knows no custom types. Holds `COUNTS`, `IGNORED`, `REJECTS`, `LEFT_OUT` and `DUPLICATES`."""

REGRESSION_EXAMPLES = Artifact("RegressionExampleGen", "examples")  # the images of `evaluation.regressions`

CONTENT_SHA256 = "content_sha256"
"""Property of the examples: SHA-256 of all images' paths, contents and classes; the same for any copy of the data."""

SPANS = "spans"  # property of the examples: the `Span`s that were read, as JSON


def count_property(split: str) -> str:
    """Property of the examples: how many a split has, so that later stages can report their progress."""
    return f"examples_{split}"


@dataclasses.dataclass(frozen=True, order=True)
class Span:
    """A span of the data.

    Attributes:
        span: its number, or the number of its day since 1970.
        version: None if the folder pattern has no `{VERSION}`.
        folder: relative to the folder before the first spec.
    """

    span: int
    version: int | None
    folder: str


def spans_of(properties: Mapping[str, Any]) -> list[Span]:
    """The spans that examples with these properties were read from, oldest first."""
    return msgspec.json.decode(str(properties.get(SPANS, "[]")), type=list[Span])


def spans_property(spans: Iterable[Span]) -> str:
    """The value of `SPANS`."""
    return msgspec.json.encode(list(spans)).decode()


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Images of one class by split, how many of its files were rejected, and how many good images were left out."""

    splits: dict[str, int]
    rejected: int
    left_out: int = 0


NO_END, INVISIBLE, FEW_BITS, MORE_BITS = "no_end", "invisible", "few_bits", "more_bits"
"""Kinds of oddities in images that can be read: a JPEG without its end marker; all pixels transparent; few of 16 bits
used; more bits used than `data.stretch`."""


@dataclasses.dataclass(frozen=True)
class Oddity:
    """Images that share an oddity.

    Attributes:
        images: how many there are.
        most: the largest value found.
        paths: of the first few.
    """

    images: int
    most: int
    paths: list[str]


@dataclasses.dataclass(frozen=True)
class IngestCounts:
    """What became of the files found. A file that holds many images counts as that many.

    Attributes:
        found: the sum of the next four.
        ignored: files that describe the data or are not images, and what was skipped; a skipped folder counts as one.
        left_out: good images that are in no split, `LEFT_OUT`.
        read: images; the sum of the splits.
        duplicates: images that show the same as another, exactly or nearly.
        ignored_by: how many were ignored, by reason.
        linked_to: folders outside the data folder that links lead to.
        remarks: what was guessed about the layout, or is odd about it.
        oddities: of images that were read, by kind, such as `NO_END`.
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
    """A file, or an image in a TFRecord file, that is not used; or a file or folder that is ignored.

    Attributes:
        path: relative to the data folder; ends in `#` and the record's number for an image in a file of many, in `/`
            for a folder.
        label: its class; empty if unknown.
        stage: `find`, `open`, `identify`, `limits` or `decode`; `CONTRADICTING` or `SMALL_CLASS` for images left out.
    """

    path: str
    label: str
    stage: str
    reason: str


Kind = Literal["identical", "near", "group", "chain"]

SAME = ("identical", "near")
"""The kinds of groups whose images show the same thing."""


@dataclasses.dataclass(frozen=True)
class DuplicateGroup:
    """Images that show the same thing, or a group that spans several of the splits given by the layout.

    Attributes:
        kind: `identical` pixels; `near`-duplicates (some may be identical); `group`, the same value of
            `data.group_by`; or `chain`, images that near-duplicates connect indirectly and that are too many for one
            split, so that each `near` group is a part of the chain.
        paths: sorted; `labels` and `splits` are in the same order.
    """

    kind: Kind
    paths: list[str]
    labels: list[str]
    splits: list[str]

    @property
    def contradicts(self) -> bool:
        """Whether what seems to be one image has several labels, which a group or a chain may have."""
        return self.kind in SAME and len(set(self.labels)) > 1

    @property
    def leaks(self) -> bool:
        """Whether it is in several splits; a chain is meant to be divided among them."""
        return self.kind != "chain" and len(set(self.splits)) > 1


COUNTS = JsonFile("counts.json", IngestCounts)

REJECTS = JsonLines("rejects.jsonl", Reject)  # sorted by path

IGNORED = JsonLines("ignored.jsonl", Reject)  # sorted by path

NO_PICTURE = "no picture: "
"""Prefix of the reasons for ignoring files that are not images and do not accompany an image of the same name."""

LEFT_OUT = JsonLines("left_out.jsonl", Reject)  # sorted by path: good images that are in no split, and why

CONTRADICTING, SMALL_CLASS = "contradicting", "small_class"
"""Stages of images left out: identical ones have other labels; their class is too small (`data.small_classes`)."""

DUPLICATES = JsonLines("duplicates.jsonl", DuplicateGroup)  # in the order of their first paths
