"""The layouts `class_folders` and `split_folders`: the name of a folder is the class of its files.

If folders could be classes or splits, or a data set for another task, nothing is guessed: the run stops.
"""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Mapping, Sequence

from components.ingestion import file_names
from components.ingestion.file_names import as_pattern
from components.ingestion.image_folder import METADATA_NAMES, DataFolder, ListedFile
from components.ingestion.layouts.given_splits import check_splits, with_splits
from components.ingestion.layouts.image_metadata import join, why_not
from components.ingestion.layouts.label_tables import LabelTables, is_table
from components.ingestion.layouts.listing import AUTO, CLASS_FOLDERS, SPLIT_FOLDERS, Listing
from components.ingestion.layouts.named_files import FileNames
from components.ingestion.layouts.source import (
    AS_CLASSES,
    EXPECTED,
    OTHERWISE,
    Source,
    check_name,
    differing_in_case,
    sentences,
)
from components.ingestion.layouts.split_names import split_called, split_within
from core.errors import InputError, some

_NO_CLASSES = {  # what data sets for other tasks call their sibling folders
    **dict.fromkeys(("images", "image", "imgs", "img", "jpegimages"), "images"),
    **dict.fromkeys(("labels", "label", "annotations", "annotation", "xmls", "bboxes", "imagesets"), "boxes"),
    **dict.fromkeys(("masks", "mask", "segmentations", "segmentationclass", "segmentationobject"), "masks"),
}
_NUMBERED = re.compile(r"([^\W\d][\w -]*?)[. _-]*\d+\.\w+")  # of a class's images
_SAMPLE = 1000  # files whose names are examined
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def read_class_folders(source: Source, tables: LabelTables, names: FileNames) -> Listing:
    """Reads `<class>/<file>`, or with splits `<split>/<class>/<file>` or `<class>/<split>/<file>`; deeper if set."""
    unclear = [*why_not(table for table in tables.others if table.label is None), *tables.notes]
    layout, at_split, at_label, notes = _folder_layout(source, unclear)
    depth = 1 if at_split is None else 2
    empty = _check_folders(source, layout, depth, at_label, unclear)
    found = [*tables.labeled, *tables.others]
    used = [table for table in found if source.config.metadata or table.names_images()]
    tables.notes.extend(f"not used: {reason}" for reason in why_not(table for table in found if table not in used))
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
    files = with_splits(source, files, by_folder, rows)
    notes += [
        f"not used: the column {table.columns[table.label]} of {table.name}, as folders say the classes"
        for table in tables.labeled
        if table.label is not None
    ]
    notes += [f"without files: {some(empty)}"] if empty else []
    notes += [*rows.notes, *tables.notes, *differing_in_case(files)]
    return Listing(
        source.path,
        layout,
        sorted([*files, *rows.missing]),
        rows.metadata,
        nested=deeper,
        described_by=tuple(sorted(table.name for table in used)),
        remarks=tuple(notes),
    )


def _folder_layout(source: Source, unclear: Sequence[str]) -> tuple[str, int | None, int, list[str]]:
    """The layout, which folder in a path is the split and which is the class, and remarks about it."""
    tops, told = source.tops, source.config.layout
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
                f"{OTHERWISE}"
            )
        check_splits(source, {name: split_called(name) for name in within})
        notes.append(f"the splits lie within the class folders ({tops[0]}/{inner[tops[0]][0]})")
        return SPLIT_FOLDERS, 1, 0, notes
    like = {name: split_within(name) for name in tops}
    if len(set(like.values()) - {""}) > 1:
        raise InputError(
            f"{source.path}: the folders {some([name for name in tops if like[name]])} seem to be splits. Rename them "
            f"train, val and test. {AS_CLASSES}"
        )
    return CLASS_FOLDERS, None, 0, notes


def _check_split_folders(
    source: Source, called: Mapping[str, str], inner: Mapping[str, Sequence[str]], unclear: Sequence[str]
) -> None:
    tops = list(called)
    unknown = [name for name in tops if not called[name]]
    known = [name for name in tops if called[name]]
    as_classes = "" if source.config.layout == SPLIT_FOLDERS or all(inner.values()) else f" {AS_CLASSES}"
    if not tops:
        return
    if unknown:
        raise InputError(
            f"{source.path} holds the folders {some(unknown)}"
            + (f" beside {some(known)}, which are called like splits" if known else "")
            + f".{as_classes} {'If not, call' if as_classes else 'Call'} each split train, val or test; data.ignore "
            f'leaves others out, as data.ignore: ["/{as_pattern(unknown[0])}/"]. {EXPECTED[SPLIT_FOLDERS]}'
        )
    flat = [name for name in tops if not inner[name]]
    if flat:
        raise InputError(
            f"{source.path}: the folders {some(flat)} are called like splits, and hold no class folders: nothing says "
            f"which class an image is of. {sentences(unclear)}Make a folder of each class in them, or write a "
            f"metadata.csv with file_name and label into each of {some(tops)}.{as_classes} {OTHERWISE}"
        )
    check_splits(source, called)


def _check_task(source: Source) -> None:
    """Raises InputError for folders of data sets for object detection or segmentation."""
    for above, names in {"": source.tops, **source.inner()}.items():
        kinds = {_NO_CLASSES.get(name.lower(), "") for name in names}
        kinds -= {""} if any(map(split_called, names)) else set()  # COCO: annotations/ beside train2017/
        if "" in kinds or not kinds & {"boxes", "masks"}:
            continue
        task = "the segmentation of images" if "masks" in kinds else "object detection, as YOLO, COCO or VOC have it"
        as_classes = "" if above else f"{AS_CLASSES} "
        tables = [file.path for file in source.tree.files if is_table(file.path)]
        said = f"If {tables[0]} names images and labels, set data.metadata to it. " if len(tables) == 1 else ""
        raise InputError(
            f"{source.path}: the folders {some([f'{above}/{name}'.lstrip('/') for name in names])} are no classes: this"
            f" looks like a data set for {task}, and images need one label each here. Cut the objects out into a "
            f"folder per class, or write metadata.csv with file_name and label. {said}{as_classes}{OTHERWISE}"
        )


def _check_folders(source: Source, layout: str, depth: int, at_label: int, unclear: Sequence[str]) -> list[str]:
    """Raises InputError if class folders are empty or have folders; returns the empty ones in eval or test."""
    folder, tree = source.path, source.tree
    expected = f"{sentences([*unclear, *_lists(tree.files)])}{EXPECTED[layout]}"
    too_deep = sorted(path for path in tree.folders if path.count("/") == depth)
    if too_deep and source.config.layout == AUTO:
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
            f"{folder} holds {len(tree.files)} files{found} and no folders of classes. "
            f"{_named_for(tree.files[:_SAMPLE])}{expected} If all of them are of one class, give the "
            "folder above as the data folder."
        )
    filled = {"/".join(file.path.split("/")[:depth]) for file in tree.files if file.path.count("/") >= depth}
    names = [path.split("/")[at_label] for path in classes]
    empty = []
    for path, name in zip(classes, names, strict=True):
        check_name(name, f"The class folder {name!r} in {folder}")
        if path in filled:
            continue
        empty.append(path)
        if depth == 1 or split_called(path.split("/")[1 - at_label]) == "train":
            raise InputError(
                f"The class folder {path} in {folder} holds no files. Fill it or remove it; "
                f'data.ignore: ["/{as_pattern(path)}/"] passes over it. {expected}'
            )
    if len(set(names)) < source.config.least_classes:
        raise InputError(f"{folder} holds only one class folder, {names[0]}. {_level_down(source)}{expected}")
    return empty


def _lists(files: Sequence[ListedFile]) -> list[str]:
    """A hint at texts beside the folders, which may say the labels."""
    texts = [file.path for file in files if "/" not in file.path and file.path.lower().endswith(".txt")]
    texts = [path for path in texts if not file_names.is_read_me(path)]
    return (
        [f"not read: {some(texts)}; save what says the labels as CSV, with a first line file_name,label"]
        if texts
        else []
    )


def _named_for(files: Sequence[ListedFile]) -> str:
    """A hint if most files seem to be named after their classes, such as `cat.12.jpg`."""
    named = [found[1] for file in files if (found := _NUMBERED.fullmatch(file.path))]
    classes = sorted({name for name, times in collections.Counter(named).items() if times > 1})
    if len(classes) < 2 or len(named) <= len(files) / 2:
        return ""
    return f"The names of the files seem to say the class: {some(classes)}. Move those of each into a folder. "


def _level_down(source: Source) -> str:
    """A hint if a folder within could be the data folder, or if these folders seem to be splits."""
    inner = [set(names) for names in source.inner().values()]
    if len(inner) > 1 and len(shared := set.intersection(*inner)) > 1:
        return (
            f"They hold folders of the same names ({some(sorted(shared))}): if they are splits, call them train, val "
            "and test. "
        )
    fit = [f"DATA={shlex.quote(listing.folder)} ({listing.describe()})" for listing in _fitting_below(source)]
    return f"Did you mean {' or '.join(fit[:2])}? " if fit else ""


def _fitting_below(source: Source, levels: int = 3) -> list[Listing]:
    """The data folders inside this one; not searched for if there are many folders or levels."""
    fit: list[Listing] = []
    if any(map(split_called, source.tops)):  # one split would be mistaken for all of the data
        return fit
    for top in source.tops if len(source.tops) <= 10 and levels else ():
        above = f"{top}/"
        files = [f._replace(path=f.path[len(above) :]) for f in source.tree.files if f.path.startswith(above)]
        folders = [path[len(above) :] for path in source.tree.folders if path.startswith(above)]
        below = source._replace(
            path=DataFolder(f"{source.path}/{top}"), tree=source.tree._replace(files=files, folders=folders)
        )
        try:
            fit.append(below.read(below))
        except InputError:
            fit += _fitting_below(below, levels - 1)
    return fit
