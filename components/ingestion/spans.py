"""Spans: data that arrive in folders numbered by day or delivery, such as `photos/day-{SPAN}`, read as a window.

The specs are TFX's: `{SPAN}`, `{SPAN:2}` for two digits, `{VERSION}`, or `{YYYY}` `{MM}` `{DD}`, a date, whose span is
the number of days since 1970. A run reads the last few spans, each in its latest version, as one data set whose paths
begin with the span's folder.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.ingestion import image_folder
from components.ingestion.image_folder import DataFolder
from components.ingestion.image_layout import read_layout
from components.ingestion.layouts.image_metadata import Metadata
from components.ingestion.layouts.listing import TFRECORDS, Listing
from core.artifacts.ingest_record import Span
from core.errors import InputError, some
from core.settings.data import IngestionConfig, Links
from core.storage import is_remote
from core.uris import DATE_SPECS, SPAN_SPEC

_EPOCH = datetime.date(1970, 1, 1)


def resolve(base: str, pattern: str, number: int | None, window: int) -> list[Span]:
    """The spans to read, oldest first: the last `window` in `base` up to `number`, or up to the latest if it is None.

    A folder whose name does not match the pattern, such as one that is still being copied, is not a span.

    Raises:
        InputError: there is no span, or not the chosen one; or one of them is a broken link.
    """
    regex = re.compile(_regex(pattern))
    latest: dict[int, Span] = {}
    for folder in _folders(base, pattern):
        found = regex.fullmatch(folder)
        span = _span(found.groupdict(), folder) if found else None
        if span and (span.span not in latest or latest[span.span] < span):
            latest[span.span] = span
    present = sorted(latest)
    if not present:
        raise InputError(f"data.images: no folder in {base} fits {pattern}; the first span belongs there")
    if number is not None and number not in latest:
        raise InputError(f"data.span: there is no span {number} in {base}; there are {present[0]} to {present[-1]}")
    last = present[-1] if number is None else number
    chosen = [latest[n] for n in present if n <= last][-window:]
    lost = [span.folder for span in chosen if not is_remote(base) and not Path(base, span.folder).exists()]
    if lost:
        raise InputError(f"data.images: spans in {base} are links that lead nowhere: {some(lost)}")
    return chosen


def read_spans(base: str, folders: Sequence[str], config: IngestionConfig) -> Listing:
    """Lists some folders below `base` as one data set, or `base` itself if `folders` is just "".

    A single folder may lack classes that the others have; together they have two or more.

    Raises:
        InputError: see `image_layout.read_layout`; or the folders have different layouts.
    """
    if list(folders) == [""]:
        return read_layout(base, config)
    roots = _linked_to(base, folders, config.links)
    alone = dataclasses.replace(config, least_classes=1)
    found = {folder: read_layout(f"{base}/{folder}", alone) for folder in folders}
    roots += [root for listing in found.values() for root in listing.folder.roots]
    for what in ("layout", "names"):
        if len({getattr(listing, what) for listing in found.values()}) > 1:
            raise InputError(f"{', '.join(folders)} in {base} are not laid out alike: they differ in their {what}")
    files = [file._replace(path=f"{folder}/{file.path}") for folder, listing in found.items() for file in listing.files]
    if found[folders[0]].layout != TFRECORDS and len({file.label for file in files if file.label}) < 2:
        raise InputError(
            f"{', '.join(folders)} in {base} hold images of one class only; two classes or more are needed"
        )
    of_splits = {bool(listing.given) for listing in found.values()}
    if len(of_splits) > 1:
        raise InputError(f"{', '.join(folders)} in {base} are not laid out alike: only some of them give splits")
    if True in of_splits and not any("train" in listing.given for listing in found.values()):
        raise InputError(f"{', '.join(folders)} in {base} give splits, and no train")
    slices = tuple(dict.fromkeys(column for listing in found.values() for column in listing.metadata.columns))
    rows = {f"{folder}/{path}": row for folder, listing in found.items() for path, row in listing.metadata.rows.items()}
    return dataclasses.replace(
        found[folders[0]],
        folder=DataFolder.linked_to(base, roots),
        files=sorted(files),
        metadata=Metadata(slices, rows),
        ignored=[
            dataclasses.replace(one, path=f"{folder}/{one.path}")
            for folder, listing in found.items()
            for one in listing.ignored
        ],
        nested=sum(listing.nested for listing in found.values()),
        described_by=tuple(f"{folder}/{name}" for folder, listing in found.items() for name in listing.described_by),
        remarks=_together({folder: listing.remarks for folder, listing in found.items()}),
    )


def _folders(base: str, pattern: str) -> Iterable[str]:
    """The folders below `base`, relative to it, that may match the pattern, and broken links.

    Remote folders are known by the files in them.
    """
    if not is_remote(base):
        found = Path(base).glob(SPAN_SPEC.sub("*", pattern))
        return [path.relative_to(base).as_posix() for path in found if path.is_dir() or not path.exists()]
    depth = pattern.count("/") + 1
    parts = (path.split("/") for path, _ in image_folder.find_remote(base, SPAN_SPEC.split(pattern)[0]))
    return {"/".join(path[:depth]) for path in parts if len(path) > depth}


def _linked_to(base: str, folders: Iterable[str], links: Links) -> list[str]:
    """The targets of spans that are links out of `base`. Raises InputError if `links` does not allow them."""
    if is_remote(base):
        return []
    real = {folder: os.path.realpath(f"{base}/{folder}") for folder in folders}
    outside = {folder: to for folder, to in real.items() if not image_folder.is_within(to, os.path.realpath(base))}
    if outside and links != "follow":
        shown = some([f"{folder} -> {to}" for folder, to in outside.items()])
        raise InputError(f"Spans in {base} are links out of it: {shown}. Set data.links to follow, or copy them there.")
    return list(outside.values())


def _together(remarks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What to say about the spans, each remark with the spans it is about, unless it is about all."""
    spans: dict[str, list[str]] = {}
    for folder, said in remarks.items():
        for remark in said:
            spans.setdefault(remark, []).append(folder)
    return tuple(
        remark if len(folders) == len(remarks) else f"{some(folders)}: {remark}" for remark, folders in spans.items()
    )


def _regex(pattern: str) -> str:
    """The regular expression of matching folders: specs are digits, any number of them unless a width is given."""
    first, *specs = SPAN_SPEC.split(pattern)  # text, and of each spec its name, its width and the text behind it
    regex = re.escape(first)
    for name, width, text in zip(specs[::3], specs[1::3], specs[2::3], strict=True):
        width = width or DATE_SPECS.get(name)
        regex += rf"(?P<{name}>[0-9]{f'{{{width}}}' if width else '+'})" + re.escape(text)
    return regex


def _span(found: dict[str, str], folder: str) -> Span | None:
    """The span in a folder's name; None if it looks like a date but is not one."""
    version = int(found["VERSION"]) if "VERSION" in found else None
    if "SPAN" in found:
        return Span(int(found["SPAN"]), version, folder)
    try:
        return Span((datetime.date(*(int(found[part]) for part in DATE_SPECS)) - _EPOCH).days, version, folder)
    except ValueError:
        return None
