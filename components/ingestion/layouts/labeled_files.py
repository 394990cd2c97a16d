"""The layout `metadata`: files anywhere, with their classes in tables."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

from components.ingestion.file_names import as_pattern, is_no_picture
from components.ingestion.image_folder import ListedFile
from components.ingestion.layouts.given_splits import splits_of_folders, with_splits
from components.ingestion.layouts.image_metadata import LABEL, LabelTable, join, why_not
from components.ingestion.layouts.label_tables import LabelTables
from components.ingestion.layouts.listing import AUTO, METADATA, Listing
from components.ingestion.layouts.named_files import FileNames
from components.ingestion.layouts.source import EXPECTED, Source, check_name, differing_in_case, sentences
from components.ingestion.layouts.split_names import split_called
from core.errors import InputError, some

_FEW = 20  # images: fewer say nothing of how many share a label
_SEPARATORS = re.compile(r"\s*[,;|]\s*")  # of several labels in one


def read_labeled_files(source: Source, tables: LabelTables, names: FileNames) -> Listing:
    """Reads files anywhere below the folder; tables give the class of each."""
    folder, expected = source.path, EXPECTED[METADATA]
    if not tables.labeled:
        others = why_not(tables.others) + tables.notes
        raise InputError(f"{folder} holds no table of labels. {sentences(others)}{expected}")
    rows = join(tables.labeled, names, with_labels=True)
    if source.config.layout == AUTO and not source.config.metadata:
        _check_labels_most(source, tables.labeled, {path for path, label in rows.labels.items() if label})
    described = {table.name for table in tables.labeled}
    distinct = {*rows.labels.values(), *(file.label for file in rows.missing)} - {""}
    for label in sorted(distinct):
        check_name(label, f"The label {label!r} in {folder}/{tables.labeled[0].name}")
    if len(distinct) < source.config.least_classes:
        raise InputError(
            f"{folder}/{tables.labeled[0].name} has fewer than two labels ({', '.join(distinct) or 'none'}). "
            f"{sentences(list(rows.problems.values())[:2])}{expected}"
        )
    if not source.config.columns.get(LABEL):
        _check_no_lists(source, tables.labeled[0], distinct)
        _check_shared(source, tables.labeled[0], rows.labels.values())
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
    if source.config.layout == AUTO:
        _check_against_folders(source, files, tables.labeled)
    usable = [file.path for file in files if not file.problem]
    unlabeled = _unlabeled_folders(files)
    by_folder = splits_of_folders(source, usable, bool(rows.splits), sentences(unlabeled))
    files = with_splits(source, files, by_folder, rows)
    unused = [f"not used: {reason}" for reason in why_not(tables.others)]
    notes = [*rows.notes, *unused, *tables.notes, *unlabeled, *differing_in_case(files)]
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


def _check_against_folders(source: Source, files: Iterable[ListedFile], tables: Sequence[LabelTable]) -> None:
    """Raises InputError if labels contradict folders that are named like labels, or if a guessed column's labels do."""
    usable = [(file.path, file.path.rpartition("/")[0].rpartition("/")[2], file.label) for file in files if file.label]
    pairs = {(name, label) for _, name, label in usable}
    above, labels = {name for name, _ in pairs}, {label for _, label in pairs}
    if sum(not split_called(name) for name in above) < 2:
        return
    same = len(pairs) == len(above) == len(labels)  # the same classes under other names
    if above <= labels or (not same and any(table.guesses_label() for table in tables)):
        against = [f"{path}: {label}" for path, name, label in usable if name != label]
        if against:
            raise InputError(
                f"{source.path}: {len(against):,} files lie in a folder of another name than the label that metadata "
                f"give them ({some(against)}). Set data.layout to metadata if these labels are the classes, and to "
                "class_folders if the folders are."
            )


def _check_no_lists(source: Source, table: LabelTable, labels: Iterable[str]) -> None:
    """Raises InputError if the labels are lists of labels, as for images that show several things."""
    parts = {label: set(filter(None, _SEPARATORS.split(label))) for label in labels}
    times = collections.Counter(part for of in parts.values() for part in of)
    lists = sorted(label for label, of in parts.items() if len(of) > 1 or label[0] in "[{")
    alike = [label for label in lists if label[0] in "[{" or any(times[part] > 1 for part in parts[label])]
    if len(alike) < len(lists) / 2:  # names may contain commas, too, but few of them share a part
        alike = []
    alike += [label for label in parts if len(words := label.split()) > 1 and all(word in parts for word in words)]
    if alike:
        assert table.label is not None
        raise InputError(
            f"{source.path}/{table.name}: {some(alike)} seem to be lists of labels, and each image needs one "
            "label here. Write one, or take such rows and their images away; if these are classes, set "
            f"data.columns.label to {table.columns[table.label]}."
        )


def _check_shared(source: Source, table: LabelTable, labels: Iterable[str]) -> None:
    """That labels are those of several images, which measurements, names and numbers of things are not."""
    times = collections.Counter(filter(None, labels))
    alone = [label for label, images in times.items() if images == 1]
    if times.total() >= _FEW and len(alone) > times.total() / 2:
        assert table.label is not None
        column = table.columns[table.label]
        raise InputError(
            f"{source.path}/{table.name}: {len(alone):,} of {times.total():,} images have a label that no other has "
            f"({some(alone, shown=3)}): {column} holds no classes. Name the column that does in data.columns.label; "
            "amounts, as an age, need ranges of them instead, such as young and old. If these are classes, set "
            f"data.columns.label to {column}."
        )


def _check_labels_most(source: Source, tables: Sequence[LabelTable], labeled: set[str]) -> None:
    """Raises InputError if tables name only a few of the images in class folders, like a list of corrections."""
    pictures = [file.path for file in source.tree.files if not is_no_picture(file.path)]
    folders = {path.rpartition("/")[0] for path in pictures}
    classes = [folder for folder in folders if folder and not split_called(folder.rpartition("/")[2])]
    if len(labeled) < len(pictures) / 2 and len(classes) > 1:
        shown = some([table.name for table in tables])
        raise InputError(
            f"{source.path}: {shown} labels {len(labeled):,} of {len(pictures):,} files, which lie in several folders. "
            "Set data.layout to class_folders if the folders are the classes, and to metadata if the labels are."
        )


def _unlabeled_folders(files: Iterable[ListedFile]) -> list[str]:
    """Folders in which no file has a label, like a competition's test images."""
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
