"""The data named in the settings, before anything runs: the folder, its layout, and the reviewed schema."""

from __future__ import annotations

import concurrent.futures.process
import itertools
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

from core import slices, storage
from core.checkout import from_checkout
from core.errors import InputError, MachineError, some
from core.processes import end_with
from core.settings import Settings
from core.settings.data import DIGITS, TFDS
from core.uris import split_pattern

if TYPE_CHECKING:
    from components.ingestion.layouts.listing import Listing
    from pipeline.schema import ReviewedSchema


def images_folder(settings: Settings, home: Path) -> str:
    """The data folder, or the pattern of several: an absolute path, or a URL. Raises InputError if there is none."""
    images = settings.data.images
    if images == DIGITS:
        from components.ingestion.digits import write_digits

        write_digits(str(home / "images"))
        return str(home / "images")
    if images.startswith(TFDS):
        # Where TensorFlow has run, nothing can be forked any more: see `pipeline.runners.forks`.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context, end_with, (os.getpid(),)) as pool:
            try:
                return pool.submit(prepare_tfds, images.removeprefix(TFDS)).result()
            except concurrent.futures.process.BrokenProcessPool as error:
                raise MachineError(f"the process that prepared {images} was killed: run again") from error
            except KeyboardInterrupt:
                for child in multiprocessing.active_children():
                    child.kill()
                raise
    if storage.is_remote(images):
        return images
    directory = Path(images).expanduser().resolve()
    base, _ = split_pattern(str(directory))
    if not Path(base).is_dir():
        found = f"{images} is a file" if Path(base).exists() else f"there is no folder {images}"
        raise InputError(
            f"data.images: {found}; give a folder that has one folder of images per class, or is "
            "laid out otherwise as docs/data.md shows (make run-local DATA=folder, or data.images in the settings: "
            "there, a relative path is meant from the settings file's folder)"
        )
    return str(directory)


def prepare_tfds(name: str, data_dir: str | None = None) -> str:
    """Downloads and prepares a data set with TensorFlow Datasets, once, and returns the folder of TFRecords.

    Args:
        name: as for `tensorflow_datasets.builder`: `tf_flowers`, `tf_flowers:3.0.1`, `name/config`.
        data_dir: where to keep it; None for the package's default (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`).

    Raises:
        InputError: the package is not installed, does not know the data set, or cannot download it.
    """
    try:
        import tensorflow_datasets as tfds  # an extra; takes seconds
        from tensorflow_datasets.core.registered import DatasetNotFoundError
    except ImportError as error:
        raise InputError(f"data.images: tfds:{name} needs the extra `tfds`: uv sync --extra tfds") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except DatasetNotFoundError as error:
        raise InputError(f"data.images: TensorFlow Datasets knows no {name!r}: {str(error).splitlines()[0]}") from error
    try:
        builder.download_and_prepare(file_format=tfds.core.FileFormat.TFRECORD)
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        raise InputError(f"data.images: tfds:{name} cannot be downloaded to {builder.data_path}: {error}") from error
    return str(builder.data_path)


def check_run_folder(settings: Settings, images: str, folder: Path) -> None:
    """Raises InputError if the run's folder lies among the images, where it would be taken for a class."""
    from components.ingestion.file_names import IgnorePatterns  # brings pathspec, as listing does

    base, pattern = split_pattern(images)
    if pattern or storage.is_remote(images) or not folder.resolve().is_relative_to(base):
        return
    parts = folder.resolve().relative_to(base).parts
    ignore = IgnorePatterns(settings.data.ignore)
    if any(ignore.reason("/".join(parts[: depth + 1]) + "/") for depth in range(len(parts))):
        return
    passed_over = f' and move {parts[0]} out, or pass over it with data.ignore: ["/{parts[0]}/"]' if parts else ""
    raise InputError(
        f"the run keeps its files in {folder}, among the images of {base}, where they would be taken for a class: give "
        f"another folder with ROOT{passed_over}"
    )


def list_images(settings: Settings, images: str) -> Listing:
    """Lists the data folder, or the spans to read. Raises InputError if their layout is not as required."""
    from components.ingestion import spans  # brings SciPy, which takes a second

    data = settings.data
    base, pattern = split_pattern(images)
    chosen = None if data.span == "latest" else data.span
    folders = [span.folder for span in spans.resolve(base, pattern, chosen, data.window)] if pattern else [""]
    return spans.read_spans(base, folders, data.ingestion({}))


def list_regressions(settings: Settings) -> Listing | None:
    """Lists the folder `evaluation.regressions`; None if it is not set.

    Raises:
        InputError: it is not laid out like a data folder.
    """
    from components.ingestion import spans  # likewise

    folder = settings.evaluation.regressions
    if folder is None:
        return None
    try:
        found = spans.read_spans(folder, [""], settings.data.regressions({}))
    except InputError as error:
        raise InputError(f"evaluation.regressions (where one class is enough): {error}") from error
    return found


def check_classes(settings: Settings, listing: Listing, schema: str) -> None:
    """Raises InputError if most classes of the images are not in the schema, as ValidationGate does much later.

    What reads the images to know their classes, as of TFRecords, is left to it.
    """
    from components.ingestion.layouts.listing import TFRECORDS
    from components.validation.data_problems import classes_misfit
    from pipeline import schema as schemas

    if listing.layout == TFRECORDS:
        return
    path = from_checkout(settings.schema_file)
    if problem := classes_misfit(listing.classes(), schemas.class_names(schema), path, path):
        raise InputError(problem)


def check_regressions(found: Listing, schema: str) -> None:
    """Raises InputError if the images that must stay right have a class that the data do not have."""
    from pipeline import schema as schemas

    known = schemas.class_names(schema)
    if unknown := sorted({*found.classes()} - {*known}):
        raise InputError(
            f"evaluation.regressions: {found.folder} has images of {some(unknown)}, and the data have no such class: "
            f"they have {some(known)}. Name its folders as the data's, or take those images away"
        )


def reviewed_schema(settings: Settings, listing: Listing | None) -> ReviewedSchema:
    """The schema; if there is none, it is inferred from the images, if they are given.

    Raises:
        InputError: the schema is missing or invalid, or no image has the feature of a slice.
    """
    from pipeline import schema as schemas  # likewise

    path = settings.schema_file
    if listing is None:
        found = schemas.ReviewedSchema(schemas.load(path), inferred=False)
    else:
        found = schemas.load_or_infer(path, settings.name, listing, settings.data.limits)
    known = schemas.feature_names(found.text)
    for key in itertools.chain.from_iterable(slices.feature_keys(settings.evaluation.slices)):
        if key not in known:  # of which TFMA says nothing, and a gate on its slices would never close
            names = ", ".join(slices.name_of(name) for name in known if slices.is_slice(name))
            raise InputError(f"evaluation.slices: no image has {slices.name_of(key)!r}; known are {names}")
    return found
