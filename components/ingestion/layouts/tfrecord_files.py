"""The layout `tfrecords`: files of many images each."""

from __future__ import annotations

from components.ingestion import image_records
from components.ingestion.layouts.listing import TFRECORDS, Listing
from components.ingestion.layouts.source import OTHERWISE, Source
from core.errors import InputError, some


def read_tfrecords(source: Source) -> Listing:
    """Reads TFRecord files, whose folder or name may say which split they are."""
    folder, tree = source.path, source.tree
    described = image_records.describing_files([file.path for file in tree.files])
    files = []
    for file in (file for file in tree.files if file.path not in described):
        problem = "" if image_records.is_record_file(file.path) else "it is not a TFRecord file"
        files.append(file._replace(split=image_records.split_of(file.path), problem=file.problem or problem))
    usable = [file for file in files if not file.problem]
    if not usable:
        raise InputError(f"{folder} holds no TFRecord files. {OTHERWISE}")
    splits = {file.split for file in usable}
    if "" in splits and len(splits) > 1:
        without = [file.path for file in usable if not file.split]
        raise InputError(
            f"Some TFRecords in {folder} name a split and others do not ({some(without)}). Put each split's files into "
            "a folder train, val or test, or none."
        )
    if splits != {""} and "train" not in splits:
        raise InputError(f"The TFRecords in {folder} give the splits {', '.join(sorted(splits))}, and no train.")
    names, notes = image_records.read_names(folder, described, [file.path for file in usable], source.config.columns)
    return Listing(folder, TFRECORDS, files, described_by=tuple(described), names=names, remarks=tuple(notes))
