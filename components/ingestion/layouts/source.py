"""A data folder to read, and what all layouts require of it."""

from __future__ import annotations

import collections
import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

from components.ingestion.file_names import IgnorePatterns
from components.ingestion.image_folder import DataFolder, ListedFile, Tree
from components.ingestion.layouts.listing import CLASS_FOLDERS, METADATA, SPLIT_FOLDERS, Listing
from core.errors import InputError, some
from core.settings.data import IngestionConfig

OTHERWISE = "docs/data.md shows every layout; data.layout names one."
EXPECTED = {
    CLASS_FOLDERS: f"Expected <data folder>/<class name>/<image files>, two classes or more. {OTHERWISE}",
    SPLIT_FOLDERS: "Expected <data folder>/<train, val or test>/<class name>/<image files>, two classes or more. "
    + OTHERWISE,
    METADATA: "Expected metadata.csv or metadata.jsonl with file_name and label, two labels or more. " + OTHERWISE,
}
AS_CLASSES = "If these are classes, set data.layout to class_folders."


class Source(NamedTuple):
    """A data folder, and how to read it."""

    path: DataFolder
    tree: Tree
    config: IngestionConfig
    read: Callable[[Source], Listing]  # how a folder of any layout is read, to try those within this one
    ignore: IgnorePatterns

    @property
    def tops(self) -> list[str]:
        """The folders in it."""
        return [path for path in self.tree.folders if "/" not in path]

    def inner(self) -> dict[str, list[str]]:
        """The names of the folders in each of these."""
        names: dict[str, list[str]] = {top: [] for top in self.tops}
        for path in self.tree.folders:
            top, slash, name = path.partition("/")
            if slash and "/" not in name and top in names:
                names[top].append(name)
        return names


def sentences(texts: Iterable[str]) -> str:
    """The texts as sentences, each followed by a period and a blank, to precede others in a message."""
    return "".join(f"{text.rstrip('.')}. " for text in texts)


def check_name(name: str, what: str) -> None:
    """Raises InputError if a class cannot have this name; `what` says where the name comes from, for the message."""
    if not name.isprintable() or name != name.strip():
        raise InputError(
            f"{what} cannot name a class: give it a name without line breaks, invisible characters, and blanks at its "
            "ends."
        )


def differing_in_case(files: Iterable[ListedFile]) -> list[str]:
    """Classes whose names differ only in case or in Unicode composition, which nobody can see."""
    alike = collections.defaultdict(list)
    for name in sorted({file.label for file in files if not file.problem}):
        alike[unicodedata.normalize("NFC", name).casefold()].append(name)
    found = [" and ".join(map(_visibly, names)) for names in alike.values() if len(names) > 1]
    way = "if these are the same, write them alike"
    return [f"classes of their own, though they differ in case or Unicode only: {some(found)}; {way}"] if found else []


def _visibly(name: str) -> str:
    """A name, and its characters where Unicode composes them from several."""
    return name if unicodedata.is_normalized("NFC", name) else f"{name} ({name!a})"
