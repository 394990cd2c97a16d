"""The reviewed schema of a data set: read from `schemas/`, or inferred once from the data and written there.

It says which features an example has and, as the domain of `label`, which classes there are. Later images that do not
fit it stop the run, so a typo in a folder's name never becomes a class.
"""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.ingestion import slice_features
from components.ingestion.bucket_boundaries import measure_edges
from components.ingestion.image_layout import Listing
from components.ingestion.image_statistics import STATISTICS
from components.validation import data_problems
from core import slices
from core.atomic_io import write_text
from core.errors import InputError
from core.image_limits import DEFAULT_LIMITS, ImageLimits

_BYTES = ("image/encoded", "image/format", "image/path", "image/sha256", "label")
_INTS = ("image/height", "image/width")
_FLOATS = tuple(f"image/{name}" for name in STATISTICS)
_EDGES = "buckets end at: "
_HEADER = """\
# The schema of the data set "{name}": a tensorflow_metadata Schema, inferred from {origin}.
# Review it, above all the domain of `label`, and commit it: images that do not fit it stop the run. The comments say
# where the buckets of brightness and the like end, thirds of the images seen first: kept, slices mean the same.

"""


def load_or_infer(path: Path, name: str, listing: Listing, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[str, bool]:
    """Returns the schema as text, and whether it had to be inferred and was written for review.

    Args:
        path: the schema file.
        name: of the data set, for the file's heading.
        listing: what the data folder holds.
        limits: pictures over them are not looked at.

    Raises:
        InputError: the file is not a schema, or there is none and the data have fewer than two classes.
    """
    if path.exists():
        return load(path), False
    schema = _infer(listing, limits)
    text = _HEADER.format(name=name, origin=listing.describe().split(":")[0])
    text += text_format.MessageToString(schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return text, True


def load(path: Path) -> str:
    """The reviewed schema as text. Raises InputError if there is none, or it is no schema."""
    if not path.exists():
        raise InputError(
            f"there is no schema {path}: a local run (make run-local) on some of the images infers it; review it, and "
            "commit it"
        )
    text = path.read_text(encoding="utf-8")
    bucket_edges(text, str(path))
    return text


def parse(text: str, where: str) -> schema_pb2.Schema:
    """The schema in `text`; `where` it stands, for the message if it is none."""
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
    """Names of all features but the image's bytes, which nobody wants statistics of."""
    return sorted(f.name for f in parse(text, "the schema").feature if f.name != data_problems.UNMEASURED)


def class_names(text: str) -> list[str]:
    """The classes: the domain of `label`."""
    schema = parse(text, "the schema")
    domain = next(feature.domain for feature in schema.feature if feature.name == slices.LABEL)
    return [name for shared in schema.string_domain if shared.name == domain for name in shared.value]


def bucket_edges(text: str, where: str = "the schema") -> dict[str, list[float]]:
    """The edges of the buckets into which pictures' statistics fall, fixed when the schema was inferred.

    Raises:
        InputError: the schema is of a time when there were none.
    """
    features = {feature.name: feature for feature in parse(text, where).feature}
    edges = {}
    for name in STATISTICS:
        comments = features[slices.feature_of(name)].annotation.comment if slices.feature_of(name) in features else []
        found = [comment.removeprefix(_EDGES) for comment in comments if comment.startswith(_EDGES)]
        if not found:
            raise InputError(f"{where} has no edges of {name}; delete the file to have it inferred anew")
        edges[name] = [float(edge) for edge in found[0].split()]
    return edges


def _infer(listing: Listing, limits: ImageLimits) -> schema_pb2.Schema:
    classes = listing.classes()
    if len(classes) < 2:
        raise InputError(f"The images in {listing.folder} have fewer than two classes: {', '.join(classes) or 'none'}.")
    schema = schema_pb2.Schema()
    edges = measure_edges(listing, limits)
    for name in (
        *_BYTES,
        *_INTS,
        *_FLOATS,
        *sorted({slices.feature_of(s) for s in (*slice_features.NAMES, *listing.metadata.columns)}),
    ):
        feature = schema.feature.add(name=name)
        feature.type = {**dict.fromkeys(_INTS, schema_pb2.INT), **dict.fromkeys(_FLOATS, schema_pb2.FLOAT)}.get(
            name, schema_pb2.BYTES
        )
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
        if name in _INTS:
            feature.int_domain.min = 1
        if name == "label":
            feature.domain = "classes"
        statistic = slices.name_of(name)
        if slices.is_slice(name) and statistic in edges:
            feature.annotation.comment.append(_EDGES + " ".join(f"{edge:g}" for edge in edges[statistic]))
    schema.string_domain.add(name="classes", value=classes)
    return schema
