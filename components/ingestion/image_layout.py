"""How a data folder says which class and split each image belongs to: the layout, detected or given, and its files.

Where a folder may be laid out in more than one way, nothing is guessed: the run stops, and says how to tell it.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from components.ingestion import file_names, image_folder, image_records
from components.ingestion.file_names import DESCRIBES, IgnorePatterns, as_pattern, is_no_picture
from components.ingestion.image_folder import METADATA_NAMES, DataFolder, ListedFile, Tree, some
from components.ingestion.image_metadata import LabelTable, Metadata, Rows, UnclearSplitsError, join
from components.ingestion.image_records import Names
from components.ingestion.named_files import FileNames
from components.ingestion.split_names import split_called, split_within
from components.ingestion.tables import ENDINGS
from core.artifacts.ingest_record import NO_PICTURE, Reject
from core.errors import InputError
from core.settings.data import SPLITS, Links

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
_OTHERWISE = "docs/data.md shows every layout; data.layout names one."
_EXPECTED = {
    CLASS_FOLDERS: f"Expected <data folder>/<class name>/<image files>, two classes or more. {_OTHERWISE}",
    SPLIT_FOLDERS: "Expected <data folder>/<train, val or test>/<class name>/<image files>, two classes or more. "
    + _OTHERWISE,
    METADATA: "Expected metadata.csv or metadata.jsonl with file_name and label, two labels or more. " + _OTHERWISE,
}
_AS_CLASSES = "If these are classes, set data.layout to class_folders."
_NO_CLASSES = {  # what data sets for other tasks call the folders that lie side by side
    **dict.fromkeys(("images", "image", "imgs", "img", "jpegimages"), "images"),
    **dict.fromkeys(("labels", "label", "annotations", "annotation", "xmls", "bboxes", "imagesets"), "boxes"),
    **dict.fromkeys(("masks", "mask", "segmentations", "segmentationclass", "segmentationobject"), "masks"),
}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_OTHER_TABLES = (".xlsx", ".xls", ".ods", ".parquet", ".json")


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
        """The splits that the layout gives, of train, eval and test; none if all are to be made."""
        found = {file.split for file in self.files if not file.problem}
        return tuple(split for split in SPLITS if split in found)

    def classes(self) -> list[str]:
        """The names of the classes, sorted. TFRecords without a list of names are read for it, once."""
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
        """A text that changes whenever what it would be read as does."""
        return f"{self.layout},{image_folder.fingerprint(self.folder, self.files, self.described_by)}"

    def notes(self, ignore: Sequence[str] = ()) -> list[str]:
        """What to say of the folder before its files are read: what is ignored, and where links lead.

        `ignore` is `data.ignore`: a pattern of it that fits nothing is named.
        """
        told = [f"ignored: {text}"] if (text := file_names.ignored_in_words(self.ignored)) else []
        unmatched = IgnorePatterns(ignore).unmatched(one.path for one in self.ignored)
        told += [f"data.ignore: {pattern} fits nothing" for pattern in unmatched]
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
    layout: str
    metadata: str  # the metadata file that the settings name, or ""
    columns: Mapping[str, str | None]
    least_classes: int
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


class _Tables(NamedTuple):
    """The tables of a data folder: those with labels, those with other columns, and what is said of the others."""

    labeled: list[LabelTable]
    others: list[LabelTable]
    notes: list[str]


def read_layout(
    folder: str,
    layout: str = AUTO,
    metadata: str = "",
    least_classes: int = 2,
    columns: Mapping[str, str | None] | None = None,
    ignore: Sequence[str] = (),
    links: Links = "inside",
) -> Listing:
    """Lists a data folder. Nothing is opened but the files that describe the data, and a record of TFRecords.

    Folders within a class folder are read only if the layout is given: where it is guessed, they may as well mean that
    the data folder was given one level too high. For `least_classes` TFRecords are not read. `ignore` and `links` are
    as of `image_folder.walk`.

    Raises:
        InputError: there is no such folder, or it is not laid out like that; or like any, if `layout` is `auto`; or
            most of its files are no pictures, or all of a class.
    """
    tree = image_folder.walk(folder, ignore, links)
    source = _Folder(tree.folder, tree, layout, metadata, columns or {}, least_classes, IgnorePatterns(ignore))
    listing = _without_other_files(_read(source), tree)
    if not listing.given:
        _check_no_lists_of_splits(listing)
    return listing


def _check_no_lists_of_splits(listing: Listing) -> None:
    """That no splits are given as lists of names, which are not read: test images would come into train."""
    lists = {}
    for one in listing.ignored:
        name = one.path.rpartition("/")[2]
        if one.reason.startswith(NO_PICTURE) and name.endswith((".txt", ".lst")) and split_called(name[:-4]):
            lists[one.path] = split_called(name[:-4])
    if len(set(lists.values())) > 1:
        shown = ", ".join(f'"/{as_pattern(path)}"' for path in lists)
        raise InputError(
            f"{listing.folder}: {some(list(lists))} seem to list the images of each split, and such lists are not "
            "read. Write a CSV with file_name and split instead, or make folders train, val and test; to split the "
            f"images anew, set data.ignore to [{shown}]."
        )


def _without_other_files(listing: Listing, tree: Tree) -> Listing:
    """The listing, with what describes the data and what is by its name no picture among the ignored files.

    Raises InputError where most files are no pictures, or all of a class: then it is the wrong folder, or no class.
    """
    folder = listing.folder
    listed = {file.path for file in listing.files}
    ignored = [Reject(file.path, "", "find", DESCRIBES) for file in tree.files if file.path not in listed]
    others = [file for file in listing.files if is_no_picture(file.path)]
    files = [file for file in listing.files if not is_no_picture(file.path)] if others else listing.files
    reasons = file_names.reasons([file.path for file in others], (file.path for file in files))
    ignored += [Reject(file.path, file.label, "find", reason) for file, reason in zip(others, reasons, strict=True)]
    strange = [one.path for one in ignored if one.reason.startswith(NO_PICTURE) and not file_names.is_read_me(one.path)]
    if len(strange) > len(files):
        kinds = sorted({file_names.kind(path) for path in strange})
        endings = ", ".join(f'"*{kind}"' for kind in kinds if kind[0] == ".")
        raise InputError(
            f"Most of the files in {folder} are no pictures: {file_names.kinds(strange)}, and {len(files):,} that may "
            "be pictures. Give the folder that the pictures are in as the data folder; if it is this one, say that the "
            f"others are to be ignored: data.ignore: [{endings}]."
        )
    for label in sorted({file.label for file in others} - {file.label for file in files} - {""}):
        of_class = file_names.kinds(file.path for file in others if file.label == label)
        raise InputError(
            f"The class {label} in {folder} has no pictures: {of_class}. Put them there; if it is no class, set "
            f'data.ignore to ["{as_pattern(label)}/"].'
        )
    return dataclasses.replace(listing, files=files, ignored=sorted([*tree.ignored, *ignored]))


def _read(source: _Folder) -> Listing:
    paths = [file.path for file in source.tree.files]
    if source.layout == TFRECORDS or (source.layout == AUTO and image_records.are_records(paths)):
        return _read_tfrecords(source)
    files = FileNames((path for path in paths if not is_no_picture(path)), source.ignore)
    tables = _read_tables(source, files)
    if source.layout == METADATA or (source.layout == AUTO and tables.labeled):
        return _read_labeled_files(source, tables, files)
    return _read_class_folders(source, tables, files)


def _is_table(path: str) -> bool:
    return path.lower().endswith(ENDINGS)


def _read_tables(source: _Folder, files: FileNames) -> _Tables:
    """The metadata file that is named, or those with the usual name; else what tables lie on top."""
    paths = [file.path for file in source.tree.files]
    if source.metadata:
        names = [path for path in paths if path == source.metadata]
        names = names or [path for path in paths if path.endswith(f"/{source.metadata}")]
        if not names:
            elsewhere = source.metadata.startswith("/") or ".." in source.metadata.split("/")
            raise InputError(
                f"data.metadata is {source.metadata}, and names a file in {source.path}: give a folder that holds the "
                "images and that file as the data folder."
                if elsewhere
                else f"There is no {source.path}/{source.metadata}. Write it, or set data.metadata to null."
            )
    else:
        names = [path for path in paths if path.rsplit("/", 1)[-1].lower() in METADATA_NAMES]
    found = [LabelTable(source.path, name, source.columns, files) for name in names]
    _check_one_each(source, found)
    unread = [path for path in paths if "/" not in path and path.lower().endswith(_OTHER_TABLES)]
    it = ("it", "it") if len(unread) == 1 else ("a table of labels", "that")
    notes = [f"not read: {some(unread)}; save {it[0]} as CSV to have {it[1]} read"] if unread else []
    if found:
        unclear = [table for table in found if table.file_name is None or (not source.metadata and table.is_empty())]
        if source.metadata and unclear:
            raise InputError(f"{source.path}: {unclear[0].why_not()}.")
        notes += [f"not used: {table.why_not()}" for table in unclear]
        found = [table for table in found if table not in unclear]
        labeled = [table for table in found if table.label is not None]
        others = [table for table in found if table.label is None]
        if labeled or others:
            beside = [path for path in paths if "/" not in path and _is_table(path) and path not in names]
            notes += [f"not used: {path}, as {names[0]} is read; data.metadata names another" for path in beside]
            return _Tables(labeled, others, notes)
    return _read_other_tables(source, files, notes)


def _read_other_tables(source: _Folder, files: FileNames, notes: list[str]) -> _Tables:
    """Tables by any other name: on top, or else in folders called like splits, where they name images."""
    paths = [file.path for file in source.tree.files if _is_table(file.path)]
    paths = [path for path in paths if path.rsplit("/", 1)[-1].lower() not in METADATA_NAMES]
    names = [path for path in paths if "/" not in path] or [
        path for path in paths if path.count("/") == 1 and split_called(path.split("/")[0])
    ]
    if source.layout == AUTO and not names:
        _check_tables_within(source, files, paths)
    labeled, others, errors = [], [], []
    for name in names:
        try:
            table = LabelTable(source.path, name, source.columns, files)
        except InputError as error:
            if not source.tree.folders or source.layout == METADATA or isinstance(error, UnclearSplitsError):
                raise
            notes.append(f"not used: {error}")
            errors.append(error)
            continue
        if not table.names_images():
            notes.append(f"not used: {table.why_not()}")
        elif table.label is not None:
            labeled.append(table)
        elif table.split is not None:
            others.append(table)
        else:
            _check_not_numbered(source, table)
            notes.append(f"not used: {table.why_not()}; data.metadata: {name} makes slices of the columns")
    if source.columns and errors and not labeled + others:  # what the settings say is not passed over
        raise errors[0]
    _check_one_each(source, labeled)
    return _Tables(labeled, others, notes)


def _check_tables_within(source: _Folder, files: FileNames, paths: Sequence[str]) -> None:
    """That the folders are not batches of images with a table of labels in each."""
    within = [path for path in paths if path.count("/") == 1]
    if len(within) > len(source.tops):  # one for each picture
        return
    for path in within:
        try:
            table = LabelTable(source.path, path, source.columns, files)
        except InputError:  # of something else
            continue
        folder, _, name = path.rpartition("/")
        if table.label is None or table.folder != folder or not table.names_images():
            continue
        if len(table.values(table.label)) > 1:
            raise InputError(
                f"{source.path}: {path} gives the images in its folder several labels. Set data.metadata to {name} to "
                "have these read, in every folder; if the folders are the classes, set data.layout to class_folders."
            )


def _check_not_numbered(source: _Folder, table: LabelTable) -> None:
    """That folders of images in a table without labels are not parts of an archive: `images_part_1` is no class."""
    alike = {re.sub(r"\d+", "", name) for name in source.tops}
    if source.layout == AUTO and len(source.tops) > 1 and len(alike) == 1 and any(map(str.isalpha, alike.pop())):
        raise InputError(
            f"{source.path}: the folders {some(source.tops)} differ in their numbers only, and {table.name} names the "
            f"images in them; its columns are {some(table.named_columns)}. If one of these holds the labels, set "
            "data.columns.label to it; if the folders are the classes, set data.layout to class_folders."
        )


def _check_one_each(source: _Folder, tables: Sequence[LabelTable]) -> None:
    """That no two tables say the same of a folder, unless they are named for different splits."""
    places = {table: (table.name.rpartition("/")[0], table.own_split) for table in tables}
    for where, times in collections.Counter(places.values()).items():
        names = [table.name for table in tables if places[table] == where]
        same = [table.name for table in tables if places[table][0] == where[0]]
        if times > 1 or (not where[1] and len(same) > 1):
            raise InputError(
                f"{source.path} holds several tables of images, {some(same if times == 1 else names)}. Name the one to "
                f"read in data.metadata, as data.metadata: {same[-1]}."
            )


def _read_labeled_files(source: _Folder, tables: _Tables, names: FileNames) -> Listing:
    """Files anywhere below the folder; tables say which class each is of."""
    folder, expected = source.path, _EXPECTED[METADATA]
    if not tables.labeled:
        others = [table.why_not() for table in tables.others] + tables.notes
        raise InputError(f"{folder} holds no table of labels. {_sentences(others)}{expected}")
    rows = join(tables.labeled, names, with_labels=True)
    if source.layout == AUTO and not source.metadata:
        _check_labels_most(source, tables.labeled, {path for path, label in rows.labels.items() if label})
    described = {table.name for table in tables.labeled}
    distinct = {*rows.labels.values(), *(file.label for file in rows.missing)} - {""}
    for label in sorted(distinct):
        _check_name(label, f"The label {label!r} in {folder}/{tables.labeled[0].name}")
    if len(distinct) < source.least_classes:
        raise InputError(
            f"{folder}/{tables.labeled[0].name} has fewer than two labels ({', '.join(distinct) or 'none'}). "
            f"{_sentences(list(rows.problems.values())[:2])}{expected}"
        )
    files = []
    no_row = f"{some(sorted(described))} has no row for it"
    for file in source.tree.files:
        if file.path in described:
            continue
        label = rows.labels.get(file.path, "")
        problem = file.problem or rows.problems.get(file.path, "")
        if not label and not problem:
            problem = f"it has no label in {rows.lines[file.path]}" if file.path in rows.lines else no_row
        files.append(file._replace(label=label, problem=problem))
    if source.layout == AUTO:
        _check_against_folders(source, files, tables.labeled)
    usable = [file.path for file in files if not file.problem]
    unlabeled = _unlabeled_folders(files)
    by_folder = _splits_of_folders(source, usable, bool(rows.splits), _sentences(unlabeled))
    files = _with_splits(source, files, by_folder, rows)
    unused = [f"not used: {table.why_not()}" for table in tables.others]
    notes = [*rows.notes, *unused, *tables.notes, *unlabeled, *_alike(files)]
    if all(label.replace(".", "", 1).isdecimal() for label in distinct):
        notes.append(f"the classes are called by the numbers that label them: {some(sorted(distinct))}")
    return Listing(
        folder,
        METADATA,
        sorted([*files, *rows.missing]),
        rows.metadata,
        described_by=tuple(sorted(described)),
        remarks=tuple(notes),
    )


def _check_labels_most(source: _Folder, tables: Sequence[LabelTable], labeled: set[str]) -> None:
    """That tables are not of a few images in class folders, as a list of corrections is."""
    pictures = [file.path for file in source.tree.files if not is_no_picture(file.path)]
    folders = {path.rpartition("/")[0] for path in pictures}
    classes = [folder for folder in folders if folder and not split_called(folder.rpartition("/")[2])]
    if len(labeled) < len(pictures) / 2 and len(classes) > 1:
        shown = some([table.name for table in tables])
        raise InputError(
            f"{source.path}: {shown} labels {len(labeled):,} of {len(pictures):,} files, which lie in several folders. "
            "Set data.layout to class_folders if the folders are the classes, and to metadata if the labels are."
        )


def _check_against_folders(source: _Folder, files: Iterable[ListedFile], tables: Sequence[LabelTable]) -> None:
    """That labels are those of the folders, where these are called like labels, or the column's name is a guess."""
    usable = [(file.path, file.path.rpartition("/")[0].rpartition("/")[2], file.label) for file in files if file.label]
    pairs = {(name, label) for _, name, label in usable}
    above, labels = {name for name, _ in pairs}, {label for _, label in pairs}
    if sum(not split_called(name) for name in above) < 2:
        return
    same = len(pairs) == len(above) == len(labels)  # the same classes, if by other names
    if above <= labels or (not same and any(table.guesses_label() for table in tables)):
        against = [f"{path}: {label}" for path, name, label in usable if name != label]
        if against:
            raise InputError(
                f"{source.path}: {len(against):,} files lie in a folder of another name than the label that metadata "
                f"give them ({some(against)}). Set data.layout to metadata if these labels are the classes, and to "
                "class_folders if the folders are."
            )


def _splits_of_folders(source: _Folder, paths: Sequence[str], column: bool, hint: str) -> dict[str, str]:
    """Folder -> split, where the folders of labeled files are called like splits, at whatever depth."""
    folders = {path.rpartition("/")[0] for path in paths}
    parts = {folder: folder.split("/") if folder else [] for folder in folders}
    for depth in range(max(map(len, parts.values()), default=0)):
        name_of = {folder: names[depth] if len(names) > depth else "" for folder, names in parts.items()}
        called = {name: split_called(name) for name in set(name_of.values())}
        if all(called.values()):
            _check_splits(source, called, hint)
            return {folder: called[name] for folder, name in name_of.items()}
        alike = sorted(name for name in called if called[name])
        if alike and not column:
            others = [name or "no such folder" for name in sorted(called.keys() - set(alike))]
            raise InputError(
                f"{source.path}: the folders {some(alike)} are called like splits, and other labeled files lie in "
                f"{some(others)}. Put all of them into train, val and test; or rename the folders; or give the table a "
                "column split."
            )
    return {}


def _with_splits(
    source: _Folder, files: Iterable[ListedFile], by_folder: Mapping[str, str], rows: Rows
) -> list[ListedFile]:
    """The files with the splits that folders and tables give, which must agree."""
    if not by_folder and not rows.splits:
        return list(files)
    placed, against = [], []
    for file in files:
        said, lies = rows.splits.get(file.path, ""), by_folder.get(file.path.rpartition("/")[0], "")
        if said and lies and said != lies and not file.problem:
            against.append(f"{file.path}: {said} in {rows.lines[file.path]}")
        placed.append(file._replace(split=said or lies))
    if against:
        raise InputError(
            f"{source.path}: {len(against):,} files are of one split by their folder and of another by the metadata "
            f"({some(against)}). Make them agree, or set data.columns.split to null to go by the folders."
        )
    given = {file.split for file in placed if not file.problem} - {""}
    if not given:
        return placed
    _check_splits(source, {split: split for split in given})
    return [
        file if file.split or file.problem else file._replace(problem="nothing says which split it belongs to")
        for file in placed
    ]


def _check_splits(source: _Folder, called: Mapping[str, str], hint: str = "") -> None:
    """That there is a train among the splits, unless this is one span of several, and no split twice."""
    where = source.path
    names = sorted(called)
    for split in SPLITS:
        same = [name for name in names if called[name] == split]
        if len(same) > 1:
            raise InputError(
                f"{where}: {' and '.join(same)} both name the split {split}. Put their files into one folder, "
                "or pass over one of them with data.ignore."
            )
    if "train" not in called.values() and source.least_classes > 1:
        raise InputError(
            f"{where} gives the splits {', '.join(names)}, and no train. To split these images anew, "
            f"give the folder they are in as the data folder, or rename it. {hint}".rstrip()
        )


def _unlabeled_folders(files: Iterable[ListedFile]) -> list[str]:
    """Folders of which no file has a label, as the test images of a competition."""
    totals: collections.Counter[str] = collections.Counter()
    labeled = set()
    for file in files:
        top = file.path.partition("/")[0] if "/" in file.path else ""
        if file.label:
            labeled.add(top)
        elif not is_no_picture(file.path):
            totals[top] += 1
    return [
        f"none of the {totals[top]:,} files in {top} has a label"
        + ("" if split_called(top) == "train" else f'; data.ignore: ["/{as_pattern(top)}/"] leaves them out')
        for top in sorted(totals.keys() - labeled - {""})
    ]


def _read_class_folders(source: _Folder, tables: _Tables, names: FileNames) -> Listing:
    """`<class>/<file>`, or with splits `<split>/<class>/<file>` or `<class>/<split>/<file>`; or deeper, if allowed."""
    unclear = [*(table.why_not() for table in tables.labeled + tables.others if table.label is None), *tables.notes]
    layout, at_split, at_label, notes = _folder_layout(source, unclear)
    depth = 1 if at_split is None else 2
    empty = _check_folders(source, layout, depth, at_label, unclear)
    found = [*tables.labeled, *tables.others]
    used = [table for table in found if source.metadata or table.names_images()]
    tables.notes.extend(f"not used: {table.why_not()}" for table in found if table not in used)
    rows = join(used, names, with_labels=False)
    described = {table.name for table in used}
    described |= {file.path for file in source.tree.files if file.path.rsplit("/", 1)[-1].lower() in METADATA_NAMES}
    beside = f"it lies beside the {'class' if at_split is None else 'split'} folders"
    deeper, by_folder = 0, {}
    files = []
    for file in source.tree.files:
        parts = file.path.split("/")
        if file.path in described:
            continue
        if at_split is not None and len(parts) > at_split + 1:
            by_folder[file.path.rpartition("/")[0]] = split_called(parts[at_split])
        if len(parts) > depth:
            deeper += len(parts) > depth + 1
            files.append(file._replace(label=parts[at_label], problem=file.problem or rows.problems.get(file.path, "")))
        else:
            files.append(file._replace(problem=file.problem or beside))
    files = _with_splits(source, files, by_folder, rows)
    notes += [
        f"not used: the column {table.columns[table.label]} of {table.name}, as folders say the classes"
        for table in tables.labeled
        if table.label is not None
    ]
    notes += [f"without files: {some(empty)}"] if empty else []
    notes += [*rows.notes, *tables.notes, *_alike(files)]
    return Listing(
        source.path,
        layout,
        sorted([*files, *rows.missing]),
        rows.metadata,
        nested=deeper,
        described_by=tuple(sorted(table.name for table in used)),
        remarks=tuple(notes),
    )


def _folder_layout(source: _Folder, unclear: Sequence[str]) -> tuple[str, int | None, int, list[str]]:
    """The layout, which folder of a path is the split and which the class, and what to say of it."""
    tops, told = source.tops, source.layout
    called = {name: split_called(name) for name in tops}
    inner = source.inner()
    if told == CLASS_FOLDERS:
        alike = [name for name in tops if called[name]]
        alike += [f"{top}/{name}" for top in tops for name in inner[top] if split_called(name)]
        told_so = f"data.layout is class_folders: {some(alike)} are read as classes or parts of them, not as splits"
        return CLASS_FOLDERS, None, 0, [told_so] if alike else []
    notes = []
    for name in [name for name in tops if called[name] and not inner[name]]:
        if not any(file.path.startswith(f"{name}/") for file in source.tree.files):
            notes.append(f"the folder {name} is empty")
            del called[name], inner[name]
    if told == AUTO:
        _check_task(source)
    within = sorted({name for names in inner.values() for name in names})
    if any(called.values()) or (told == SPLIT_FOLDERS and not any(map(split_called, within))):
        _check_split_folders(source, called, inner, unclear)
        return SPLIT_FOLDERS, 0, 1, notes
    if any(map(split_called, within)):
        if not all(map(split_called, within)) or not all(inner.values()):
            raise InputError(
                f"{source.path}: some class folders hold folders called like splits, and others do not "
                f"({some(within)}). Give every class folder the same splits, or put the splits above the classes. "
                f"{_OTHERWISE}"
            )
        _check_splits(source, {name: split_called(name) for name in within})
        notes.append(f"the splits lie within the class folders ({tops[0]}/{inner[tops[0]][0]})")
        return SPLIT_FOLDERS, 1, 0, notes
    like = {name: split_within(name) for name in tops}
    if len(set(like.values()) - {""}) > 1:
        raise InputError(
            f"{source.path}: the folders {some([name for name in tops if like[name]])} seem to be splits. Rename them "
            f"train, val and test. {_AS_CLASSES}"
        )
    return CLASS_FOLDERS, None, 0, notes


def _check_split_folders(
    source: _Folder, called: Mapping[str, str], inner: Mapping[str, Sequence[str]], unclear: Sequence[str]
) -> None:
    tops = list(called)
    unknown = [name for name in tops if not called[name]]
    known = [name for name in tops if called[name]]
    as_classes = "" if source.layout == SPLIT_FOLDERS or all(inner.values()) else f" {_AS_CLASSES}"
    if not tops:
        return
    if unknown:
        raise InputError(
            f"{source.path} holds the folders {some(unknown)}"
            + (f" beside {some(known)}, which are called like splits" if known else "")
            + f".{as_classes} {'If not, call' if as_classes else 'Call'} each split train, val or test; data.ignore "
            f'leaves others out, as data.ignore: ["/{as_pattern(unknown[0])}/"]. {_EXPECTED[SPLIT_FOLDERS]}'
        )
    flat = [name for name in tops if not inner[name]]
    if flat:
        raise InputError(
            f"{source.path}: the folders {some(flat)} are called like splits, and hold no class folders: nothing says "
            f"which class an image is of. {_sentences(unclear)}Make a folder of each class in them, or write a "
            f"metadata.csv with file_name and label into each of {some(tops)}.{as_classes} {_OTHERWISE}"
        )
    _check_splits(source, called)


def _check_task(source: _Folder) -> None:
    """That the folders are not those of data sets for finding or outlining objects."""
    for above, names in {"": source.tops, **source.inner()}.items():
        kinds = {_NO_CLASSES.get(name.lower(), "") for name in names}
        kinds -= {""} if any(map(split_called, names)) else set()  # COCO: annotations/ beside train2017/
        if "" in kinds or not kinds & {"boxes", "masks"}:
            continue
        task = "the segmentation of images" if "masks" in kinds else "object detection, as YOLO, COCO or VOC have it"
        as_classes = "" if above else f"{_AS_CLASSES} "
        tables = [file.path for file in source.tree.files if _is_table(file.path)]
        said = f"If {tables[0]} names images and labels, set data.metadata to it. " if len(tables) == 1 else ""
        raise InputError(
            f"{source.path}: the folders {some([f'{above}/{name}'.lstrip('/') for name in names])} are no classes: this"
            f" looks like a data set for {task}, and images need one label each here. Cut the objects out into a "
            f"folder per class, or write metadata.csv with file_name and label. {said}{as_classes}{_OTHERWISE}"
        )


def _check_folders(source: _Folder, layout: str, depth: int, at_label: int, unclear: Sequence[str]) -> list[str]:
    """That there are class folders with files, and none deeper; returns the empty ones in eval or test."""
    folder, tree = source.path, source.tree
    expected = f"{_sentences(unclear)}{_EXPECTED[layout]}"
    too_deep = sorted(path for path in tree.folders if path.count("/") == depth)
    if too_deep and source.layout == AUTO:
        above = too_deep[0].rsplit("/", 1)[0]
        raise InputError(
            f"The class folder {above} in {folder} holds folders itself ({some(too_deep)}). {_level_down(source)}"
            f"{expected}"
            + (
                f" If all that is below {above} is of that class, set data.layout to {layout}; else move the images up."
                if len(source.tops) > 1
                else ""
            )
        )
    classes = [path for path in tree.folders if path.count("/") == depth - 1]
    if not classes:
        found = f" ({file_names.kinds(file.path for file in tree.files)})" if tree.files else ""
        if any(file.path.lower().endswith(_ARCHIVES) for file in tree.files):
            expected = f"Unpack the archives first. {expected}"
        raise InputError(
            f"{folder} holds {len(tree.files)} files{found} and no folders of classes. {expected} If all of them "
            "are of one class, give the folder above as the data folder."
        )
    filled = {"/".join(file.path.split("/")[:depth]) for file in tree.files if file.path.count("/") >= depth}
    names = [path.split("/")[at_label] for path in classes]
    empty = []
    for path, name in zip(classes, names, strict=True):
        _check_name(name, f"The class folder {name!r} in {folder}")
        if path in filled:
            continue
        empty.append(path)
        if depth == 1 or split_called(path.split("/")[1 - at_label]) == "train":
            raise InputError(
                f"The class folder {path} in {folder} holds no files. Fill it or remove it; "
                f'data.ignore: ["/{as_pattern(path)}/"] passes over it. {expected}'
            )
    if len(set(names)) < source.least_classes:
        raise InputError(f"{folder} holds only one class folder, {names[0]}. {_level_down(source)}{expected}")
    return empty


def _level_down(source: _Folder) -> str:
    """Whether a folder within would do as the data folder, or these folders seem to be splits."""
    inner = [set(names) for names in source.inner().values()]
    if len(inner) > 1 and len(shared := set.intersection(*inner)) > 1:
        return (
            f"They hold folders of the same names ({some(sorted(shared))}): if they are splits, call them train, val "
            "and test. "
        )
    fit = [f"DATA={listing.folder} ({listing.describe()})" for listing in _fitting_below(source)]
    return f"Did you mean {' or '.join(fit[:2])}? " if fit else ""


def _fitting_below(source: _Folder, levels: int = 3) -> list[Listing]:
    """The data folders that lie in this one; not looked for where there are many folders or levels."""
    fit: list[Listing] = []
    if any(map(split_called, source.tops)):  # a part of the images would be taken for all of them
        return fit
    for top in source.tops if len(source.tops) <= 10 and levels else ():
        above = f"{top}/"
        files = [f._replace(path=f.path[len(above) :]) for f in source.tree.files if f.path.startswith(above)]
        folders = [path[len(above) :] for path in source.tree.folders if path.startswith(above)]
        below = source._replace(
            path=DataFolder(f"{source.path}/{top}"), tree=source.tree._replace(files=files, folders=folders)
        )
        try:
            fit.append(_read(below))
        except InputError:
            fit += _fitting_below(below, levels - 1)
    return fit


def _read_tfrecords(source: _Folder) -> Listing:
    """TFRecord files, whose folder or name may say which split they are."""
    folder, tree = source.path, source.tree
    described = image_records.describing_files([file.path for file in tree.files])
    files = []
    for file in (file for file in tree.files if file.path not in described):
        problem = "" if image_records.is_record_file(file.path) else "it is not a TFRecord file"
        files.append(file._replace(split=image_records.split_of(file.path), problem=file.problem or problem))
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
    names, notes = image_records.read_names(folder, described, [file.path for file in usable], source.columns)
    return Listing(folder, TFRECORDS, files, described_by=tuple(described), names=names, remarks=tuple(notes))


def _alike(files: Iterable[ListedFile]) -> list[str]:
    """Classes that differ in the case of letters only, or in how Unicode composes these, which nobody sees."""
    alike = collections.defaultdict(list)
    for name in sorted({file.label for file in files if not file.problem}):
        alike[unicodedata.normalize("NFC", name).casefold()].append(name)
    return [
        f"{' and '.join(names)} are different classes"
        + (
            f": they are composed otherwise in Unicode ({', '.join(map(ascii, names))})"
            if len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
            else ""
        )
        for names in alike.values()
        if len(names) > 1
    ]


def _sentences(texts: Iterable[str]) -> str:
    return "".join(f"{text.rstrip('.')}. " for text in texts)


def _check_name(name: str, what: str) -> None:
    if not name.isprintable() or name != name.strip():
        raise InputError(
            f"{what} cannot name a class: give it a name without line breaks, invisible characters, and blanks at its "
            "ends."
        )
