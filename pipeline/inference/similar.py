"""`similar`: finds the last run's training images that look most similar to its network, from stored features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.features.neighbors import Neighbor, nearest, pooled
from components.ingestion.decoder import Decoder
from components.ingestion.image_reading import for_model
from components.serving.served_model import ServedModel, errors_of
from core import examples, progress, signatures, tfrecords
from core.artifacts.base import split_dir
from core.artifacts.exported_model import MODEL, serving_dir
from core.artifacts.features import EXTRACTED, FEATURES_FILE, FeatureFormat, Features, features_name
from core.artifacts.ingest_record import EXAMPLES
from core.artifacts.model_limits import model_limits
from core.errors import InputError
from pipeline.inference.predict import BATCH_SIZE, ImageFile, batches, load, read
from pipeline.runs.lineage import NodeRun, output, uri_of

_SPLIT = "train"


def similar(
    nodes: Mapping[str, NodeRun], files: Sequence[str | Path], most: int, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Compares image files with all training images; holds only the files' features, whatever the data set's size.

    Args:
        nodes: of a run.
        files: image files; `names.expand` lists those in a folder.
        most: how many training images to list for each.
        say: called with a sentence about the model, if there is one.

    Yields:
        For each file, in order, `path` and `similar`: a list of `path` (in the data folder), `label` and `similarity`,
        the cosine similarity of both images' features, most similar first. Or `path` and `error` if the file could not
        be read.

    Raises:
        InputError: the run has no model, or stored no features.
    """
    directory = serving_dir(uri_of(nodes, MODEL))
    if output(nodes, EXTRACTED) is None:
        raise InputError(
            "the last run stored no features, since its training reads images: the base is not frozen, or every step "
            "varies its images anew. The model's signature embed gives what to compare pictures by"
        )
    stored = uri_of(nodes, EXTRACTED)
    described = FEATURES_FILE.read(stored)
    read_files: list[ImageFile] = []
    vectors: list[np.ndarray] = []
    with Decoder(for_model, model_limits(directory)) as decoder, load(directory, say) as model:
        assert isinstance(model, ServedModel)  # it is a folder's
        ask, stored_as = _asking(model, described)
        for batch in batches(read(map(str, files), decoder), BATCH_SIZE):
            good = [file.encoded for file in batch if not file.error]
            errors, features = ask(good) if good else ([], np.empty(0))
            vectors += [one for one, error in zip(features, errors, strict=True) if not error]
            refused = iter(errors)
            read_files += [ImageFile(file.path, b"", file.error or next(refused)) for file in batch]
            progress.report(len(read_files), len(files), "images")
    found: list[list[Neighbor]] = []
    if vectors:
        found = nearest([f"{split_dir(stored, _SPLIT)}/*"], stored_as, np.stack(vectors), most)
    pictures = _pictures(uri_of(nodes, EXAMPLES), {one.sha256 for neighbors in found for one in neighbors})
    each = iter(found)
    for file in read_files:
        yield {
            "path": file.path,
            **({"error": file.error} if file.error else {"similar": _listed(next(each), pictures)}),
        }


def _asking(
    model: ServedModel, described: Features
) -> tuple[Callable[[Sequence[bytes]], tuple[list[str], np.ndarray]], FeatureFormat]:
    """A function from image files to errors and pooled features [n, d], and the format of the stored features."""
    signature = model.signatures[signatures.FEATURES]
    (name,) = signature.inputs
    block = next((one for one in described.outputs if features_name(described.cut, one) == name), None)
    by_image = model.signatures[signatures.IMAGES]
    fetches = by_image.outputs[signatures.ERROR].name, signature.inputs[name].name
    fed = by_image.inputs["images"].name

    def ask(images: Sequence[bytes]) -> tuple[list[str], np.ndarray]:
        errors, features = model.session.run(fetches, {fed: np.array(list(images), dtype=object)})
        return errors_of({signatures.ERROR: errors}), pooled(features)

    return ask, described.format(_SPLIT, block)


def _pictures(uri: str, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """Path and label of the training pictures with these hashes; of copies the first."""
    found: dict[str, tuple[str, str]] = {}
    for record in tfrecords.read(f"{split_dir(uri, _SPLIT)}/*") if wanted else ():
        values = tfrecords.values(record)
        sha256, *known = (tfrecords.text(values.get(n, b"")) for n in (examples.SHA256, examples.PATH, examples.LABEL))
        if sha256 in wanted:
            found.setdefault(sha256, (known[0], known[1]))
            if len(found) == len(wanted):
                break
    return found


def _listed(neighbors: Sequence[Neighbor], pictures: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"path": path, "label": label, "similarity": round(neighbor.similarity, 4)}
        for neighbor in neighbors
        for path, label in [pictures[neighbor.sha256]]
    ]
