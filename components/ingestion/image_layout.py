"""How a data folder says which class and split each image belongs to: the layout, detected or told, and its files."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from components.ingestion import image_folder, image_records
from components.ingestion.image_folder import METADATA_NAMES, Tree, some
from components.ingestion.image_metadata import LABEL_COLUMN, Metadata, has_labels, read_metadata
from components.ingestion.image_records import Names
from core.errors import InputError

AUTO = "auto"
CLASS_FOLDERS = "class_folders"
SPLIT_FOLDERS = "split_folders"
METADATA = "metadata"
TFRECORDS = "tfrecords"
LAYOUTS = (AUTO, CLASS_FOLDERS, SPLIT_FOLDERS, METADATA, TFRECORDS)

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "eval", "dev"), "eval"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the splits, in lower case."""

_EXPECTED = {
    CLASS_FOLDERS: "Expected <data folder>/<class name>/<image files>, two classes or more.",
    SPLIT_FOLDERS: "Expected <data folder>/<train, val or test>/<class name>/<image files>, two classes or more.",
    METADATA: f"Expected metadata.csv or metadata.jsonl with file_name and {LABEL_COLUMN}, two labels or more.",
}
_OTHERWISE = "docs/data.md shows every layout; data.layout names one."


class ListedFile(NamedTuple):
    """One file that is to be read or rejected; in the layout `tfrecords`, one of many images.

    Attributes:
        path: relative to the data folder, with `/`.
        label: its class; empty where there is none, and for files of many images.
        state: size and time of change, for the fingerprint.
        problem: why it cannot be read, known already from where it is or what it is called; else empty.
        split: `train`, `eval` or `test` where the layout gives it; else empty.
    """

    path: str
    label: str
    state: str
    problem: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a data folder holds.

    Attributes:
        folder: the data folder.
        layout: one of `LAYOUTS`, never `auto`.
        files: sorted by path.
        metadata: further columns, which become slices.
        ignored: how many hidden files and folders, and files that describe the data, were passed over.
        nested: how many files lie in folders within a class folder.
        described_by: those files, relative to the folder.
        names: for `tfrecords`: how their integer labels are called, and where the image is.
    """

    folder: str
    layout: str
    files: list[ListedFile]
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    ignored: int = 0
    nested: int = 0
    described_by: tuple[str, ...] = ()
    names: Names = dataclasses.field(default_factory=Names)

    @property
    def given(self) -> tuple[str, ...]:
        """The splits that the layout gives, of train, eval and test; none if all are to be made."""
        found = {file.split for file in self.files if not file.problem}
        return tuple(split for split in ("train", "eval", "test") if split in found)

    def classes(self) -> list[str]:
        """The names of the classes, sorted. TFRecords without a list of names are read for it, once."""
        if self.layout == TFRECORDS:
            paths = [file.path for file in self.files if not file.problem]
            found = list(self.names.labels) or image_records.distinct_labels(self.folder, paths, self.names)
        else:
            found = [file.label for file in self.files if file.label]
        return sorted(set(found))

    def fingerprint(self) -> str:
        """A text that changes whenever what it would be read as does."""
        found = (image_folder.FoundFile(file.path, file.state) for file in self.files)
        return f"{self.layout},{image_folder.fingerprint(self.folder, found, self.described_by)}"

    def describe(self) -> str:
        """In a line, for the console: the layout and how many files of what it gives."""
        usable = [file for file in self.files if not file.problem]
        unit = "TFRecord files" if self.layout == TFRECORDS else "files"
        within = f", {self.nested:,} of them in folders within the class folders" if self.nested else ""
        per_split = collections.Counter(file.split for file in usable)
        if self.given:
            counts = ", ".join(f"{split} {per_split[split]:,}" for split in self.given)
            made = [split for split in ("train", "eval", "test") if split not in self.given]
            missing = f"; {' and '.join(made)} made from train, by hashing" if made else ""
            return f"{_SPOKEN[self.layout]}: {counts} {unit}{within}{missing}"
        classes = "" if self.layout == TFRECORDS else f" in {len({file.label for file in usable}):,} classes"
        return f"{_SPOKEN[self.layout]}: {len(usable):,} {unit}{classes}{within}"


_SPOKEN = {
    CLASS_FOLDERS: "class folders",
    SPLIT_FOLDERS: "pre-split folders",
    METADATA: "labels in the metadata",
    TFRECORDS: "TFRecords",
}


def read_layout(folder: str, layout: str = AUTO, metadata: str = "", least_classes: int = 2) -> Listing:
    """Lists a data folder. Nothing is opened but the files that describe the data.

    Folders within a class folder are read only if the layout is told: where it is guessed, they may as well mean that
    the data folder was given one level too high.

    Args:
        folder: the data folder, local or remote.
        layout: one of `LAYOUTS`.
        metadata: name of the metadata file in it, or "".
        least_classes: how many it must have (TFRecords are not read for it).

    Raises:
        InputError: if there is no such folder, or it is not laid out like that; or like any, if `layout` is `auto`.
    """
    tree = image_folder.walk(folder)
    described = [metadata, *(name for name in METADATA_NAMES if name != metadata)]
    present = [name for name in described if any(file.path == name for file in tree.files)]
    if metadata and metadata not in present:
        raise InputError(f"There is no {folder}/{metadata}. Write it, or set data.metadata to null.")
    nested = layout != AUTO
    if layout == AUTO:
        layout = _detect(folder, tree, present)
    if layout == TFRECORDS:
        return _list_records(folder, tree)
    if layout == METADATA:
        return _list_by_metadata(folder, tree, present, least_classes)
    return _list_class_folders(folder, tree, layout, metadata, least_classes, nested)


def _detect(folder: str, tree: Tree, described: Sequence[str]) -> str:
    if any(image_records.is_record_file(file.path) for file in tree.files):
        return TFRECORDS
    if any(has_labels(folder, name) for name in described):
        return METADATA
    top = {path.split("/")[0] for path in tree.folders}
    nested = {path.split("/")[0] for path in tree.folders if "/" in path}
    if top and {name.lower() for name in top} <= SPLIT_NAMES.keys() and "train" in _splits(top) and nested == top:
        return SPLIT_FOLDERS
    return CLASS_FOLDERS


def _splits(names: set[str]) -> dict[str, str]:
    """Split -> what its folder is called here."""
    return {SPLIT_NAMES[name.lower()]: name for name in sorted(names) if name.lower() in SPLIT_NAMES}


def _list_class_folders(
    folder: str, tree: Tree, layout: str, metadata: str, least_classes: int, nested: bool
) -> Listing:
    """`<class>/<file>`, or with splits `<split>/<class>/<file>`; `nested`: or deeper."""
    depth = 2 if layout == SPLIT_FOLDERS else 1
    _check_folders(folder, tree, layout, depth, least_classes, nested)
    ignored, deeper = tree.ignored, 0
    files = []
    beside = "the split folders" if depth == 2 else "the class folders"
    for file in tree.files:
        parts = file.path.split("/")
        split = SPLIT_NAMES[parts[0].lower()] if depth == 2 and len(parts) > 1 else ""
        if parts[-1] in METADATA_NAMES or file.path == metadata:
            ignored += 1
        elif len(parts) > depth:
            deeper += len(parts) > depth + 1
            files.append(ListedFile(file.path, parts[depth - 1], file.state, file.problem, split))
        else:
            files.append(ListedFile(file.path, "", file.state, file.problem or f"it lies beside {beside}", split))
    usable = (file.path for file in files)
    described = (metadata,) if metadata else ()
    return Listing(folder, layout, files, read_metadata(folder, metadata, usable), ignored, deeper, described)


def _check_folders(folder: str, tree: Tree, layout: str, depth: int, least_classes: int, nested: bool) -> None:
    expected = f"{_EXPECTED[layout]} {_OTHERWISE}"
    too_deep = sorted({path for path in tree.folders if path.count("/") == depth})
    if too_deep and not nested:
        above = sorted({path.rsplit("/", 1)[0] for path in too_deep})
        raise InputError(
            f"The class folder {above[0]} in {folder} holds folders itself ({some(too_deep)}). {expected} If those are "
            f"the classes, give the folder they are in as the data folder; if all that is below {above[0]} is of that "
            f"class, set data.layout to {layout}; else move the images up."
        )
    if depth == 2:
        tops = [path for path in tree.folders if "/" not in path]
        strange = [name for name in tops if name.lower() not in SPLIT_NAMES]
        twice = len({SPLIT_NAMES[name.lower()] for name in tops if name not in strange}) < len(tops) - len(strange)
        if strange or twice or "train" not in _splits(set(tops)):
            raise InputError(f"{folder} holds the folders {some(tops)}. {expected}")
    classes = [path for path in tree.folders if path.count("/") == depth - 1]
    if not classes:
        raise InputError(f"{folder} holds {len(tree.files)} files and no folders of classes. {expected}")
    filled = {"/".join(file.path.split("/")[:depth]) for file in tree.files if file.path.count("/") >= depth}
    for path in classes:
        name = path.rsplit("/", 1)[-1]
        _check_name(name, f"The class folder {name!r} in {folder}")
        if path not in filled:
            raise InputError(f"The class folder {path} in {folder} holds no files. Fill it or remove it. {expected}")
    if len({path.rsplit("/", 1)[-1] for path in classes}) < least_classes:
        raise InputError(f"{folder} holds only one class folder, {classes[0].rsplit('/', 1)[-1]}. {expected}")


def _list_by_metadata(folder: str, tree: Tree, described: Sequence[str], least_classes: int) -> Listing:
    """Files anywhere below the folder; the metadata says which class each is of."""
    expected = f"{_EXPECTED[METADATA]} {_OTHERWISE}"
    name = next((name for name in described if has_labels(folder, name)), None)
    if name is None:
        raise InputError(f"{folder} holds no such file. {expected}")
    others = [file for file in tree.files if file.path not in described]
    labels, rest = read_metadata(folder, name, (file.path for file in others)).without_labels()
    for label in sorted(set(labels.values())):
        _check_name(label or "x", f"The {LABEL_COLUMN} {label!r} in {folder}/{name}")
    if len(set(labels.values()) - {""}) < least_classes:
        raise InputError(f"{folder}/{name} has fewer than two labels. {expected}")
    files = []
    for file in others:
        missing = f"{name} has no row for it" if file.path not in labels else f"its {LABEL_COLUMN} in {name} is empty"
        label = labels.get(file.path, "")
        files.append(ListedFile(file.path, label, file.state, file.problem or ("" if label else missing)))
    return Listing(folder, METADATA, files, rest, tree.ignored + len(described), described_by=(name,))


def _list_records(folder: str, tree: Tree) -> Listing:
    """TFRecord files, whose folder or name may say which split they are."""
    described = image_records.describing_files([file.path for file in tree.files])
    files = []
    for file in tree.files:
        if file.path in described:
            continue
        problem = "" if image_records.is_record_file(file.path) else "it is not a TFRecord file"
        split = image_records.split_in_name(file.path, SPLIT_NAMES)
        files.append(ListedFile(file.path, "", file.state, file.problem or problem, split))
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
    ignored = tree.ignored + len(described)
    return Listing(folder, TFRECORDS, files, ignored=ignored, described_by=tuple(described), names=names)


def _check_name(name: str, what: str) -> None:
    if not name.isprintable() or name != name.strip():
        raise InputError(f"{what} cannot name a class: give it a name without line breaks and blanks at its ends.")
