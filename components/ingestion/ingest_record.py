"""What an ingestion leaves beside the examples: the rejects, the duplicates, and counts that add up to the files found.

It is an artifact of its own, published whatever comes of the run: ValidationGate judges it later.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfx.dsl.io import fileio

from components.ingestion.image_splits import GROUP, Duplicates, Facts

REJECTS_FILE = "rejects.jsonl"
"""A JSON object a line with `path`, `label`, `stage` and `reason`, sorted by path."""

DUPLICATES_FILE = "duplicates.jsonl"
"""A JSON object a line: `image_splits.Duplicates`."""

COUNTS_FILE = "counts.json"
"""{"found", "ignored", "rejected", "read", <split>..., "duplicates", "layout", "given": [split...],
"classes": {<name>: {<split>..., "rejected"}}}: found = ignored + rejected + read, and read is the sum of the splits.
What is found are files, or what is in them where files hold many images."""

_REJECTED = "rejected"


def write(
    uri: str,
    facts: Sequence[Facts],
    splits: Mapping[str, str],
    rejects: Iterable[Mapping[str, str]],
    duplicates: Sequence[Duplicates],
    split_names: Sequence[str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the three files, and returns the counts.

    Args:
        uri: the artifact's folder.
        facts: of all images that were read.
        splits: their paths -> their splits.
        rejects: all that were not.
        duplicates: among the images, and groups across splits.
        split_names: in order.
        about: `ignored`, `layout` and `given`, as in `image_layout.Listing`; and `listed`, the number of its files that
            are one image each, None where they hold many.

    Raises:
        ValueError: a listed file is neither read nor rejected, or both, a fault of ours.
    """
    rejected = sorted(rejects, key=lambda reject: reject["path"])
    ended = len(rejected) + len(facts)
    listed = ended if about["listed"] is None else about["listed"]
    if ended != listed:
        raise ValueError(f"{listed} files were listed; {len(facts)} were read and {len(rejected)} rejected")
    counts: dict[str, Any] = {
        "found": about["ignored"] + listed,
        "ignored": about["ignored"],
        _REJECTED: len(rejected),
        "read": len(facts),
    }
    counts |= dict.fromkeys(split_names, 0) | collections.Counter(splits[image.path] for image in facts)
    counts["duplicates"] = len({path for group in duplicates if group.kind != GROUP for path in group.paths[1:]})
    counts |= {"layout": about["layout"], "given": list(about["given"])}
    classes: dict[str, dict[str, int]] = {}
    for label, outcome in itertools.chain(
        ((image.label, splits[image.path]) for image in facts), ((reject["label"], _REJECTED) for reject in rejected)
    ):
        if label:
            classes.setdefault(label, dict.fromkeys([*split_names, _REJECTED], 0))[outcome] += 1
    _write_lines(f"{uri}/{REJECTS_FILE}", rejected)
    _write_lines(f"{uri}/{DUPLICATES_FILE}", [group.to_dict() for group in duplicates])
    with fileio.open(f"{uri}/{COUNTS_FILE}", "w") as file:
        file.write(json.dumps({**counts, "classes": dict(sorted(classes.items()))}, indent=1, ensure_ascii=False))
    return counts


def content_hash(facts: Iterable[Facts]) -> str:
    """SHA-256, as hexadecimal digits, of every image's path, content and class: the same for any copy of the data."""
    content = hashlib.sha256()
    for image in sorted((image.path, image.sha256, image.label) for image in facts):
        content.update(f"{json.dumps(image)}\n".encode())
    return content.hexdigest()


def read_counts(uri: str) -> dict[str, Any]:
    """What `COUNTS_FILE` in that folder holds."""
    with fileio.open(f"{uri}/{COUNTS_FILE}") as file:
        return json.loads(file.read())


def read_rejects(uri: str, most: int | None = None) -> list[dict[str, str]]:
    """The first (at most `most`) entries of `REJECTS_FILE` in that folder."""
    with fileio.open(f"{uri}/{REJECTS_FILE}") as file:
        return [json.loads(line) for line in itertools.islice(file, most)]


def read_duplicates(uri: str) -> list[Duplicates]:
    """All entries of `DUPLICATES_FILE` in that folder."""
    with fileio.open(f"{uri}/{DUPLICATES_FILE}") as file:
        return [Duplicates(**json.loads(line)) for line in file]


def _write_lines(path: str, entries: Iterable[Mapping[str, Any]]) -> None:
    with fileio.open(path, "w") as file:
        file.write("".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in entries))
