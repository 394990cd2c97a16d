"""How a data folder says which class and split each image belongs to: the layout, detected or given, and its files.

If a folder could be read in more than one way, nothing is guessed: the run stops, and says which setting decides.
"""

from __future__ import annotations

import dataclasses

from components.ingestion import file_names, image_folder, image_records
from components.ingestion.file_names import DESCRIBES, IgnorePatterns, as_pattern, is_no_picture
from components.ingestion.image_folder import Tree
from components.ingestion.layouts.class_folders import read_class_folders
from components.ingestion.layouts.label_tables import read_tables
from components.ingestion.layouts.labeled_files import read_labeled_files
from components.ingestion.layouts.listing import AUTO, METADATA, TFRECORDS, Listing
from components.ingestion.layouts.named_files import FileNames
from components.ingestion.layouts.source import Source
from components.ingestion.layouts.split_names import split_called
from components.ingestion.layouts.tfrecord_files import read_tfrecords
from core.artifacts.ingest_record import NO_PICTURE, Reject
from core.errors import InputError, some
from core.settings.data import IngestionConfig


def read_layout(folder: str, config: IngestionConfig) -> Listing:
    """Lists a data folder. Opens only the files that describe the data, and a record of TFRecords.

    Folders within a class folder are read only if the layout is given; if it is detected, they could also mean that the
    data folder was given one level too high. TFRecords are not read to check `least_classes`.

    Raises:
        InputError: there is no such folder, or it does not have that layout (or any, if `layout` is `auto`), or most of
            its files, or all those of a class, are not images.
    """
    tree = image_folder.walk(folder, config.ignore, config.links)
    source = Source(tree.folder, tree, config, _read, IgnorePatterns(config.ignore))
    listing = _without_other_files(_read(source), tree)
    if not listing.given:
        _check_no_lists_of_splits(listing)
    return listing


def _without_other_files(listing: Listing, tree: Tree) -> Listing:
    """The listing, with what describes the data, and what is no image by its name, among the ignored files.

    Raises InputError if most files, or all those of a class, are not images: the folder is wrong, or is not a class.
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


def _read(source: Source) -> Listing:
    paths = [file.path for file in source.tree.files]
    if source.config.layout == TFRECORDS or (source.config.layout == AUTO and image_records.are_records(paths)):
        return read_tfrecords(source)
    files = FileNames((path for path in paths if not is_no_picture(path)), source.ignore)
    tables = read_tables(source, files)
    if source.config.layout == METADATA or (source.config.layout == AUTO and tables.labeled):
        return read_labeled_files(source, tables, files)
    return read_class_folders(source, tables, files)


def _check_no_lists_of_splits(listing: Listing) -> None:
    """Raises InputError if lists of names give splits: they are not read, so test images would end up in train."""
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
