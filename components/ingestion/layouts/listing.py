"""The content of a data folder whose layout is known: the files, with the class and split of each."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from components.ingestion import file_names, image_folder, image_records
from components.ingestion.file_names import IgnorePatterns
from components.ingestion.image_folder import DataFolder, ListedFile
from components.ingestion.image_records import Names
from components.ingestion.layouts.image_metadata import Metadata
from core.artifacts.ingest_record import Reject
from core.settings.data import SPLITS

AUTO = "auto"
CLASS_FOLDERS = "class_folders"
SPLIT_FOLDERS = "split_folders"
METADATA = "metadata"
TFRECORDS = "tfrecords"

_TITLES = {
    CLASS_FOLDERS: "class folders",
    SPLIT_FOLDERS: "pre-split folders",
    METADATA: "labels in the metadata",
    TFRECORDS: "TFRecords",
}


@dataclasses.dataclass(frozen=True)
class Listing:
    """The content of a data folder.

    Attributes:
        layout: `data.layout`, never `auto`.
        files: to be read or rejected, sorted by path; in the layout `tfrecords`, each holds many images.
        metadata: further columns, which become slices.
        ignored: what was skipped, describes the data or is not an image, by path, with the reason.
        nested: how many files lie in folders within a class folder.
        described_by: the files that describe the data, relative to the folder.
        remarks: what was guessed or is odd: a sentence each, for the first lines of a run.
    """

    folder: DataFolder
    layout: str
    files: list[ListedFile]
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    ignored: list[Reject] = dataclasses.field(default_factory=list)
    nested: int = 0
    described_by: tuple[str, ...] = ()
    names: Names = dataclasses.field(default_factory=Names)
    remarks: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """The splits among train, eval and test that the layout gives; none if all must be made."""
        found = {file.split for file in self.files if not file.problem}
        return tuple(split for split in SPLITS if split in found)

    def classes(self) -> list[str]:
        """The names of the classes, sorted. TFRecords without a list of names are read once to find them."""
        if self.layout == TFRECORDS:
            found = set(self.names.classes()) or {
                record.label
                for file in self.files
                if not file.problem
                for record in image_records.read_records(self.folder, file.path, self.names)
            }
        else:
            found = {file.label for file in self.files}
        return sorted(found - {""})

    def fingerprint(self) -> str:
        """A text that changes whenever the data that would be read do."""
        return f"{self.layout},{image_folder.fingerprint(self.folder, self.files, self.described_by)}"

    def notes(self, ignore: Sequence[str] = ()) -> list[str]:
        """What to say about the folder before its files are read: what is ignored, and where links lead.

        `ignore` is `data.ignore`; patterns in it that match nothing are named.
        """
        told = [f"ignored: {text}"] if (text := file_names.ignored_in_words(self.ignored)) else []
        unmatched = IgnorePatterns(ignore).unmatched(one.path for one in self.ignored)
        told += [f"data.ignore: {pattern} fits nothing" for pattern in unmatched]
        return told + ([f"links lead to {', '.join(self.folder.roots)}"] if self.folder.roots else [])

    def describe(self) -> str:
        """For the console: the layout, and the number of files, by split if splits are given."""
        usable = [file for file in self.files if not file.problem]
        unit = "TFRecord files" if self.layout == TFRECORDS else "files"
        within = f", {self.nested:,} of them in folders within the class folders" if self.nested else ""
        per_split = collections.Counter(file.split for file in usable)
        title = _TITLES[self.layout]
        if self.given:
            counts = ", ".join(f"{split} {per_split[split]:,}" for split in self.given)
            made = " and ".join(split for split in SPLITS if split not in self.given)
            missing = f"; {made} made from train, by hashing" if made else ""
            return f"{title}: {counts} {unit}{within}{missing}"
        classes = "" if self.layout == TFRECORDS else f" in {len({file.label for file in usable}):,} classes"
        return f"{title}: {len(usable):,} {unit}{classes}{within}"
