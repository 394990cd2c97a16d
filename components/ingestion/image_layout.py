"""How a data folder says which class and split each image belongs to: the layout, detected or given, and its files."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from components.ingestion import file_names, image_folder, image_records
from components.ingestion.file_names import DESCRIBES, IgnorePatterns, is_ignored_by
from components.ingestion.image_folder import METADATA_NAMES, DataFolder, ListedFile, Tree, some
from components.ingestion.image_metadata import LABEL_COLUMN, Metadata, has_labels, read_metadata
from components.ingestion.image_records import Names
from core.artifacts.ingest_record import NO_PICTURE, Reject
from core.errors import InputError
from core.settings.data import SPLITS, Links

AUTO = "auto"
CLASS_FOLDERS = "class_folders"
SPLIT_FOLDERS = "split_folders"
METADATA = "metadata"
TFRECORDS = "tfrecords"

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "eval", "dev"), "eval"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the splits, in lower case."""

_TITLES = {
    CLASS_FOLDERS: "class folders",
    SPLIT_FOLDERS: "pre-split folders",
    METADATA: "labels in the metadata",
    TFRECORDS: "TFRecords",
}
_OTHERWISE = "docs/data.md shows every layout; data.layout names one."
_EXPECTED = {
    CLASS_FOLDERS: f"Expected <data folder>/<class name>/<image files>, two classes or more. {_OTHERWISE}",
    SPLIT_FOLDERS: "Expected <data folder>/<train, val or test>/<class name>/<image files>, two classes or more. "
    + _OTHERWISE,
    METADATA: f"Expected metadata.csv or metadata.jsonl with file_name and {LABEL_COLUMN}, two labels or more. "
    + _OTHERWISE,
}


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a data folder holds.

    Attributes:
        layout: `data.layout`, never `auto`.
        files: to be read or rejected, sorted by path; in the layout `tfrecords` each holds many images.
        metadata: further columns, which become slices.
        ignored: what was passed over, described the data or is no picture, by path, with the reason.
        nested: how many files lie in folders within a class folder.
        described_by: the files that describe the data, relative to the folder.
    """

    folder: DataFolder
    layout: str
    files: list[ListedFile]
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    ignored: list[Reject] = dataclasses.field(default_factory=list)
    nested: int = 0
    described_by: tuple[str, ...] = ()
    names: Names = dataclasses.field(default_factory=Names)

    @property
    def given(self) -> tuple[str, ...]:
        """The splits that the layout gives, of train, eval and test; none if all are to be made."""
        found = {file.split for file in self.files if not file.problem}
        return tuple(split for split in SPLITS if split in found)

    def classes(self) -> list[str]:
        """The names of the classes, sorted. TFRecords without a list of names are read for it, once."""
        if self.layout == TFRECORDS:
            found = set(self.names.labels) or {
                record.label
                for file in self.files
                if not file.problem
                for record in image_records.read_records(self.folder, file.path, self.names)
            }
        else:
            found = {file.label for file in self.files}
        return sorted(found - {""})

    def fingerprint(self) -> str:
        """A text that changes whenever what it would be read as does."""
        return f"{self.layout},{image_folder.fingerprint(self.folder, self.files, self.described_by)}"

    def notes(self, ignore: Sequence[str] = ()) -> list[str]:
        """What to say of the folder before its files are read: what is ignored, and where links lead.

        `ignore` is `data.ignore`: a pattern of it that fits nothing is named.
        """
        told = [f"ignored: {text}"] if (text := file_names.ignored_in_words(self.ignored)) else []
        fitting = [one.path for one in self.ignored if is_ignored_by(one.reason)]
        told += [f"data.ignore: {pattern} fits nothing" for pattern in IgnorePatterns(ignore).unmatched(fitting)]
        return told + ([f"links lead to {', '.join(self.folder.roots)}"] if self.folder.roots else [])

    def describe(self) -> str:
        """For the console: the layout and how many files of what it gives."""
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


class _Folder(NamedTuple):
    """A data folder, and how to read it."""

    path: DataFolder
    tree: Tree
    metadata: str  # the metadata file that the settings name, or ""
    described: list[str]  # the metadata files in the folder, that one first
    least_classes: int
    nested: bool  # whether folders within a class folder are read


def read_layout(
    folder: str,
    layout: str = AUTO,
    metadata: str = "",
    least_classes: int = 2,
    ignore: Sequence[str] = (),
    links: Links = "inside",
) -> Listing:
    """Lists a data folder. Nothing is opened but the files that describe the data.

    Folders within a class folder are read only if the layout is given: where it is guessed, they may as well mean that
    the data folder was given one level too high. For `least_classes` TFRecords are not read. `ignore` and `links` are as
    of `image_folder.walk`.

    Raises:
        InputError: there is no such folder, or it is not laid out like that; or like any, if `layout` is `auto`; or most
            of its files are no pictures, or all of a class.
    """
    tree = image_folder.walk(folder, ignore, links)
    names = [metadata, *(name for name in METADATA_NAMES if name != metadata)]
    described = [name for name in names if any(file.path == name for file in tree.files)]
    if metadata and metadata not in described:
        raise InputError(f"There is no {folder}/{metadata}. Write it, or set data.metadata to null.")
    source = _Folder(tree.folder, tree, metadata, described, least_classes, nested=layout != AUTO)
    layout = _detect(source) if layout == AUTO else layout
    if layout == TFRECORDS:
        listing = _read_tfrecords(source)
    else:
        listing = _read_labeled_files(source) if layout == METADATA else _read_class_folders(source, layout)
    return _without_other_files(listing, tree)


def _without_other_files(listing: Listing, tree: Tree) -> Listing:
    """The listing, with what describes the data and what is by its name no picture among the ignored files.

    Raises InputError where most files are no pictures, or all of a class: then it is the wrong folder, or no class.
    """
    folder = listing.folder
    listed = {file.path for file in listing.files}
    ignored = [Reject(file.path, "", "find", DESCRIBES) for file in tree.files if file.path not in listed]
    others = [file for file in listing.files if file_names.is_no_picture(file.path)]
    files = [file for file in listing.files if not file_names.is_no_picture(file.path)] if others else listing.files
    reasons = file_names.reasons([file.path for file in others], (file.path for file in files))
    ignored += [Reject(file.path, file.label, "find", reason) for file, reason in zip(others, reasons, strict=True)]
    strange = [one.path for one in ignored if one.reason.startswith(NO_PICTURE) and not file_names.is_read_me(one.path)]
    if len(strange) > len(files):
        endings = ", ".join(
            f'"*{kind}"' for kind in sorted({file_names.kind(path) for path in strange}) if kind[0] == "."
        )
        raise InputError(
            f"Most of the files in {folder} are no pictures: {file_names.kinds(strange)}, and {len(files):,} that may be "
            "pictures. Give the folder that the pictures are in as the data folder; if it is this one, say that the "
            f"others are to be ignored: data.ignore: [{endings}]."
        )
    for label in sorted({file.label for file in others} - {file.label for file in files} - {""}):
        of_class = file_names.kinds(file.path for file in others if file.label == label)
        raise InputError(
            f"The class {label} in {folder} has no pictures: {of_class}. Put them there; if it is no class, set "
            f'data.ignore to ["{label}/"].'
        )
    return dataclasses.replace(listing, files=files, ignored=sorted([*tree.ignored, *ignored]))


def _detect(source: _Folder) -> str:
    if any(image_records.is_record_file(file.path) for file in source.tree.files):
        return TFRECORDS
    if any(has_labels(source.path, name) for name in source.described):
        return METADATA
    top = {path.split("/")[0] for path in source.tree.folders}
    nested = {path.split("/")[0] for path in source.tree.folders if "/" in path}
    splits = {SPLIT_NAMES.get(name.lower()) for name in top}
    return SPLIT_FOLDERS if "train" in splits and None not in splits and nested == top else CLASS_FOLDERS


def _read_class_folders(source: _Folder, layout: str) -> Listing:
    """`<class>/<file>`, or with splits `<split>/<class>/<file>`; or deeper, where that is allowed."""
    depth = 2 if layout == SPLIT_FOLDERS else 1
    _check_folders(source, layout, depth)
    deeper = 0
    files = []
    beside = f"it lies beside the {'split' if depth == 2 else 'class'} folders"
    for file in source.tree.files:
        parts = file.path.split("/")
        split = SPLIT_NAMES[parts[0].lower()] if depth == 2 and len(parts) > 1 else ""
        if parts[-1] in METADATA_NAMES or file.path == source.metadata:
            continue
        if len(parts) > depth:
            deeper += len(parts) > depth + 1
            files.append(file._replace(label=parts[depth - 1], split=split))
        else:
            files.append(file._replace(split=split, problem=file.problem or beside))
    metadata = read_metadata(source.path, source.metadata, (file.path for file in files))
    described = (source.metadata,) if source.metadata else ()
    return Listing(source.path, layout, files, metadata, nested=deeper, described_by=described)


def _check_folders(source: _Folder, layout: str, depth: int) -> None:
    folder, tree = source.path, source.tree
    expected = _EXPECTED[layout]
    too_deep = sorted(path for path in tree.folders if path.count("/") == depth)
    if too_deep and not source.nested:
        above = too_deep[0].rsplit("/", 1)[0]
        raise InputError(
            f"The class folder {above} in {folder} holds folders itself ({some(too_deep)}). {expected} If those are "
            f"the classes, give the folder they are in as the data folder; if all that is below {above} is of that "
            f"class, set data.layout to {layout}; else move the images up."
        )
    if depth == 2:
        tops = [path for path in tree.folders if "/" not in path]
        splits = [SPLIT_NAMES.get(name.lower()) for name in tops]
        if None in splits or len(set(splits)) < len(splits) or "train" not in splits:
            raise InputError(f"{folder} holds the folders {some(tops)}. {expected}")
    classes = [path for path in tree.folders if path.count("/") == depth - 1]
    if not classes:
        found = f": {file_names.kinds(file.path for file in tree.files)}" if tree.files else ""
        raise InputError(f"{folder} holds no folders of classes and {len(tree.files)} files{found}. {expected}")
    filled = {"/".join(file.path.split("/")[:depth]) for file in tree.files if file.path.count("/") >= depth}
    names = [path.rsplit("/", 1)[-1] for path in classes]
    for path, name in zip(classes, names, strict=True):
        _check_name(name, f"The class folder {name!r} in {folder}")
        if path not in filled:
            raise InputError(f"The class folder {path} in {folder} holds no files. Fill it or remove it. {expected}")
    if len(set(names)) < source.least_classes:
        raise InputError(f"{folder} holds only one class folder, {names[0]}. {expected}")


def _read_labeled_files(source: _Folder) -> Listing:
    """Files anywhere below the folder; the metadata says which class each is of."""
    folder, expected = source.path, _EXPECTED[METADATA]
    name = next((name for name in source.described if has_labels(folder, name)), None)
    if name is None:
        raise InputError(f"{folder} holds no such file. {expected}")
    others = [file for file in source.tree.files if file.path not in source.described]
    found = read_metadata(folder, name, (file.path for file in others))
    labels = {path: row[LABEL_COLUMN] for path, row in found.rows.items()}
    rest = Metadata(tuple(column for column in found.columns if column != LABEL_COLUMN), found.rows)
    distinct = set(labels.values()) - {""}
    for label in sorted(distinct):
        _check_name(label, f"The {LABEL_COLUMN} {label!r} in {folder}/{name}")
    if len(distinct) < source.least_classes:
        raise InputError(f"{folder}/{name} has fewer than two labels. {expected}")
    files = []
    for file in others:
        missing = f"its {LABEL_COLUMN} in {name} is empty" if file.path in labels else f"{name} has no row for it"
        label = labels.get(file.path, "")
        files.append(file._replace(label=label, problem=file.problem or ("" if label else missing)))
    return Listing(folder, METADATA, files, rest, described_by=(name,))


def _read_tfrecords(source: _Folder) -> Listing:
    """TFRecord files, whose folder or name may say which split they are."""
    folder, tree = source.path, source.tree
    described = image_records.describing_files([file.path for file in tree.files])
    files = []
    for file in (file for file in tree.files if file.path not in described):
        problem = "" if image_records.is_record_file(file.path) else "it is not a TFRecord file"
        split = image_records.split_in_name(file.path, SPLIT_NAMES)
        files.append(file._replace(split=split, problem=file.problem or problem))
    usable = [file for file in files if not file.problem]
    if not usable:
        raise InputError(f"{folder} holds no TFRecord files. {_OTHERWISE}")
    splits = {file.split for file in usable}
    if "" in splits and len(splits) > 1:
        without = [file.path for file in usable if not file.split]
        raise InputError(
            f"Some TFRecords in {folder} name a split and others do not ({some(without)}). Put each split's files into "
            "a folder train, val or test, or none."
        )
    if splits != {""} and "train" not in splits:
        raise InputError(f"The TFRecords in {folder} give the splits {', '.join(sorted(splits))}, and no train.")
    names = image_records.read_names(folder, described)
    return Listing(folder, TFRECORDS, files, described_by=tuple(described), names=names)


def _check_name(name: str, what: str) -> None:
    if not name.isprintable() or name != name.strip():
        raise InputError(f"{what} cannot name a class: give it a name without line breaks and blanks at its ends.")
