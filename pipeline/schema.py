"""The reviewed schema of a data set: read from `schemas/`, or inferred once, and kept if the data pass the checks.

It says which features an example has and, as the domain of `label`, which classes there are. Later images that do not
fit it stop the run, so a typo in a folder's name never becomes a class.
"""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.ingestion import image_records, parallel, slice_features
from components.ingestion.decoder import Decoder
from components.ingestion.image_folder import read_file
from components.ingestion.image_reading import RejectedError, statistics_of
from components.ingestion.image_statistics import STATISTICS
from components.ingestion.layouts.listing import TFRECORDS, Listing
from core import examples, progress, slices
from core.atomic_io import write_text
from core.errors import InputError
from core.image_limits import DEFAULT_LIMITS, ImageLimits

_BYTES = (examples.IMAGE, examples.FORMAT, examples.PATH, examples.SHA256, examples.LABEL)
_INTS = (examples.HEIGHT, examples.WIDTH)
_FLOATS = tuple(map(examples.statistic, STATISTICS))
_BOUNDARIES = "bucket boundaries: "
_CLASSES = "classes"
_BATCH = 64  # images that are read together
_SAMPLE = 1000  # images whose statistics are measured: enough to place each third to about three percentage points
_HEADER = """\
# The schema of the data set "{name}": a tensorflow_metadata Schema. Review it, above all the domain of `label`, and
# commit it: images that do not fit it stop the run. The comments say what it was inferred from, and the bucket
# boundaries of brightness and the like, thirds of the images seen first: kept, slices mean the same.

"""


class ReviewedSchema(NamedTuple):
    """A schema in protobuf's text format; `inferred` from the images if it is not written yet."""

    text: str
    inferred: bool


def load_or_infer(path: Path, name: str, listing: Listing, limits: ImageLimits = DEFAULT_LIMITS) -> ReviewedSchema:
    """The reviewed schema or, where there is none, one for `keep` to write.

    Raises:
        InputError: as `load`; or there is none, and none can be written.
    """
    if path.exists():
        return ReviewedSchema(load(path), inferred=False)
    try:  # now, rather than after the run
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"{path.parent} is not writable")
    except OSError as error:
        raise InputError(f"the schema {path} cannot be written: {error}; name another with data.schema") from error
    schema = _infer(listing, limits)
    classes = len(schema.string_domain[0].value)
    origin = f"inferred on {date.today()} from the {classes:,} classes in {listing.folder} ({listing.describe()})"
    # Where people read it; TensorFlow Metadata's own order would put it last.
    head = text_format.MessageToString(schema_pb2.Schema(annotation={"comment": [origin]}), as_utf8=True)
    text = _HEADER.format(name=name) + head + text_format.MessageToString(schema, as_utf8=True)
    return ReviewedSchema(text, inferred=True)


def keep(path: Path, text: str) -> None:
    """Writes an inferred schema for review. Raises FileExistsError if another has been written since."""
    if path.exists():
        raise FileExistsError(f"{path} has come to be there since, and the next run takes it")
    write_text(path, text)


def load(path: Path) -> str:
    """The reviewed schema as text. Raises InputError if there is none, or if it is invalid."""
    if not path.exists():
        raise InputError(
            f"there is no schema {path}: a local run (make run-local) on some of the images infers it, and writes it "
            "if they pass ValidationGate; review it, and commit it"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the schema {path} cannot be read: {error}") from error
    bucket_boundaries(text, str(path))
    return text


def parse(text: str, where: str) -> schema_pb2.Schema:
    """The schema in `text`; `where` says where the text is, for the message if it is invalid."""
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise InputError(f"{where} is not a schema in protobuf's text format: {error}") from error
    missing = {*_BYTES, *_INTS} - {feature.name for feature in schema.feature}
    if missing:
        raise InputError(
            f"{where} lacks the features {', '.join(sorted(missing))}; delete the file to have it inferred anew"
        )
    return schema


def feature_names(text: str) -> list[str]:
    """Names of all features except the image's bytes, of which statistics would be useless."""
    return sorted(f.name for f in parse(text, "the schema").feature if f.name != examples.IMAGE)


def class_names(text: str) -> list[str]:
    """The classes: the domain of `label`."""
    schema = parse(text, "the schema")
    domain = next(feature.domain for feature in schema.feature if feature.name == examples.LABEL)
    return [name for shared in schema.string_domain if shared.name == domain for name in shared.value]


def bucket_boundaries(text: str, where: str = "the schema") -> dict[str, list[float]]:
    """Boundaries of the buckets of image statistics. Raises InputError if the schema lacks those of any statistic."""
    comments_of = {feature.name: feature.annotation.comment for feature in parse(text, where).feature}
    found = {}
    for name in STATISTICS:
        comments = comments_of.get(slices.feature_of(name), ())
        values = next((c.removeprefix(_BOUNDARIES) for c in comments if c.startswith(_BOUNDARIES)), None)
        if values is None:
            raise InputError(f"{where} has no bucket boundaries of {name}; delete the file to have it inferred anew")
        found[name] = [float(value) for value in values.split()]
    return found


def _infer(listing: Listing, limits: ImageLimits) -> schema_pb2.Schema:
    classes = listing.classes()
    if len(classes) < 2:
        raise InputError(f"The images in {listing.folder} have fewer than two classes: {', '.join(classes) or 'none'}.")
    schema = schema_pb2.Schema()
    named = sorted({*slice_features.NAMES, *listing.metadata.columns} - {examples.LABEL})
    kinds = dict.fromkeys(_BYTES, schema_pb2.BYTES) | dict.fromkeys(_INTS, schema_pb2.INT)
    kinds |= dict.fromkeys(_FLOATS, schema_pb2.FLOAT) | dict.fromkeys(map(slices.feature_of, named), schema_pb2.BYTES)
    measured = _sampled_statistics(listing, limits)
    boundaries = {
        slices.feature_of(name): slice_features.between_thirds([statistics[name] for statistics in measured])
        for name in STATISTICS
    }
    for name, kind in kinds.items():
        feature = schema.feature.add(name=name, type=kind)
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
        if kind == schema_pb2.INT:
            feature.int_domain.min = 1
        if name == examples.LABEL:
            feature.domain = _CLASSES
        if name in boundaries:
            feature.annotation.comment.append(_BOUNDARIES + " ".join(f"{value:g}" for value in boundaries[name]))
    schema.string_domain.add(name=_CLASSES, value=classes)
    return schema


def _sampled_statistics(listing: Listing, limits: ImageLimits) -> list[dict[str, float]]:
    measured: list[dict[str, float]] = []
    done = 0
    with Decoder(statistics_of, limits) as decoder:
        for some in parallel.batches(itertools.islice(_sample(listing, limits), _SAMPLE), _BATCH, len):
            measured += [found for found in decoder.read(some) if not isinstance(found, RejectedError)]
            done += len(some)
            progress.report(done, None, "images", "sampled")
    return measured


def _sample(listing: Listing, limits: ImageLimits) -> Iterator[bytes]:
    """A sample of the images: the first in the order of their paths' hashes."""
    files = [file for file in listing.files if not file.problem]
    for file in sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest()):
        if listing.layout == TFRECORDS:
            records = image_records.read_records(listing.folder, file.path, listing.names, limits)
            yield from (record.data for record in records if not record.problem)
        else:
            with contextlib.suppress(RejectedError):
                yield read_file(listing.folder, file.path, limits)
