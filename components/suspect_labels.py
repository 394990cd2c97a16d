"""SuspectLabels: lists images of all splits that are probably mislabeled, judged by their stored features.

It removes and changes nothing: the list is for people to review.
"""

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, InferenceResult

from components.evaluation import confident_learning
from components.evaluation.intervals import as_range, wilson
from components.features.neighbors import read_pooled
from components.ingestion.near_duplicates import components
from core import atomic_io, progress, slices, tfrecords
from core import examples as raw
from core.artifacts.features import FEATURES_FILE
from core.artifacts.ingest_record import DUPLICATES
from core.artifacts.suspects import QUALITY, SUSPECTS_CSV, SUSPECTS_FILE, LabelQuality, Suspect
from core.csv_cells import as_text

_BATCH = 8192  # images whose features are held as they are stored


@component
def SuspectLabels(  # noqa: N802 - a component is a class to its users
    examples: InputArtifact[Examples],
    features: InputArtifact[Examples],
    record: InputArtifact[File],
    suspects: OutputArtifact[InferenceResult],
    group_by: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Lists the images that another class fits better than their label, most doubtful first.

    Args:
        examples: raw, with the images' paths and labels.
        features: FeatureExtractor's.
        record: ImageExampleGen's; an image's duplicates must not influence the judgment of its label.
        suspects: as in `core.artifacts.suspects`; of a TFX type, since Vertex AI knows no custom types.
        group_by: a column of the metadata; images that share its value are kept together, like duplicates.
        code: hash of this component's source, so that TFX's cache notices when it changes.
    """
    del code
    images = list(_images(examples, group_by))
    groups = _groups(images, record.uri)
    judged, names, labels = _large_enough(images, groups)
    if len(names) > 1:
        rows, reduced = _reduced(features)
        of_images = reduced[[rows[images[number].sha256] for number in judged]]
        probabilities = confident_learning.out_of_fold(of_images, labels, groups[judged], _progressed)
        listed = list(_suspects([images[number] for number in judged], names, labels, probabilities))
        agreed = int((probabilities.argmax(axis=1) == labels).sum())
        errors = sum(suspect.confident for suspect in listed)
        rates = as_range(wilson(errors, len(judged))), as_range(wilson(agreed, len(judged)))
        quality = LabelQuality(len(judged), len(listed), errors, *rates, len(images) - len(judged))
    else:
        least = confident_learning.FOLDS
        reason = f"it takes two classes with {least} images or more, duplicates not counted"
        listed, quality = [], LabelQuality(0, 0, 0, as_range(None), as_range(None), len(images), reason)
    fileio.makedirs(suspects.uri)
    SUSPECTS_FILE.write(suspects.uri, listed)
    QUALITY.write(suspects.uri, quality)
    with atomic_io.replacing(f"{suspects.uri}/{SUSPECTS_CSV}") as file:
        table = csv.DictWriter(file, [field.name for field in dataclasses.fields(Suspect)])
        table.writeheader()
        for suspect in listed:
            cells = dataclasses.asdict(suspect)
            table.writerow({k: as_text(cell) if isinstance(cell, str) else cell for k, cell in cells.items()})
    progress.report(quality.images, len(images), "images", quality.reason or f"{quality.errors} labels in doubt")


class _Image(NamedTuple):
    """An image without its features."""

    path: str
    sha256: str
    split: str
    label: str
    group: str


def _images(examples: Examples, group_by: str) -> Iterator[_Image]:
    for split in artifact_utils.decode_split_names(examples.split_names):
        for record in tfrecords.read(f"{artifact_utils.get_split_uri([examples], split)}/*"):
            values = tfrecords.values(record)
            path, sha256, label, group = (
                tfrecords.text(values.get(name, b""))
                for name in (raw.PATH, raw.SHA256, raw.LABEL, slices.feature_of(group_by))
            )
            yield _Image(path, sha256, split, label, group)


def _groups(images: Sequence[_Image], record: str) -> np.ndarray:
    """Group numbers of the images, int64 [n]: equal for duplicates and for images of one group."""
    places = {image.path: number for number, image in enumerate(images)}
    together = [[places[path] for path in group.paths if path in places] for group in DUPLICATES.read(record)]
    by_value: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        if image.group:
            by_value.setdefault(image.group, []).append(number)
    pairs = [pair for numbers in (*together, *by_value.values()) for pair in itertools.pairwise(numbers)]
    return components(len(images), np.array(pairs, np.int64).reshape(-1, 2))


def _large_enough(images: Sequence[_Image], groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of the images whose class has enough groups, the names of these classes, and the images' classes."""
    names, labels = np.unique([image.label for image in images], return_inverse=True)
    distinct = np.unique(np.stack([labels, groups]), axis=1)[0]
    kept = np.bincount(distinct, minlength=len(names)) >= confident_learning.FOLDS
    judged = np.flatnonzero(kept[labels])
    return judged, names[kept], np.cumsum(kept)[labels[judged]] - 1


def _reduced(features: Examples) -> tuple[dict[str, int], np.ndarray]:
    """The reduced features of all images, float32 [n, d], and their rows by the images' SHA-256."""
    rows: dict[str, int] = {}
    reduced = []
    reduce = None
    stored = _stored(features, rows)
    while batch := list(itertools.islice(stored, _BATCH)):
        whole = np.stack(batch)
        reduce = reduce or confident_learning.Reduction(whole)
        reduced.append(reduce(whole))
    return rows, np.concatenate(reduced)


def _stored(features: Examples, rows: dict[str, int]) -> Iterator[np.ndarray]:
    """The pooled features of each image once, float32 [d]. Fills `rows`."""
    described = FEATURES_FILE.read(features.uri)
    for split in artifact_utils.decode_split_names(features.split_names):
        stored = described.format(split)
        for sha256, found in read_pooled([f"{artifact_utils.get_split_uri([features], split)}/*"], stored):
            if sha256 not in rows:
                rows[sha256] = len(rows)
                yield found


def _suspects(
    images: Sequence[_Image], names: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> Iterator[Suspect]:
    for number, likely, confident in zip(*confident_learning.find_label_issues(probabilities, labels), strict=True):
        image = images[number]
        yield Suspect(
            path=image.path,
            sha256=image.sha256,
            split=image.split,
            label=image.label,
            likely=str(names[likely]),
            label_probability=round(float(probabilities[number, labels[number]]), 4),
            likely_probability=round(float(probabilities[number, likely]), 4),
            confident=bool(confident),
        )


def _progressed(done: int, of: int) -> None:
    progress.report(done, of, "fits")
