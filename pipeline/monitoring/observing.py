"""Production images with the model's predictions: a Beam job classifies a folder, or a request log is read.

In: a folder.  ListFiles -> Spread -> Together -> Read (as at ingestion) -> Observe (one model a worker process)
-> Write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apache_beam as beam
import msgspec
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from components.ingestion import parallel, slice_features
from components.ingestion.decoder import Decoder
from components.ingestion.image_folder import printable, read_anywhere
from components.ingestion.image_reading import ReadImage, RejectedError, read_image
from components.serving.served_model import ServedModel, errors_of
from core import atomic_io, checksums, signatures
from core.artifacts import request_log
from core.artifacts.exported_model import class_names
from core.artifacts.model_limits import model_limits
from core.artifacts.monitoring import Observation
from core.errors import InputError, some
from core.image_limits import ImageLimits
from core.progress import ProgressCounter
from core.storage import is_remote
from pipeline.inference import predict
from pipeline.inference.batch_predict import list_files

T = TypeVar("T")

_LINES = "observations.jsonl"


class _Picture(NamedTuple):
    """An image file as the model takes it, or why it could not be read."""

    path: str
    time: float | None
    encoded: bytes
    error: str
    slices: dict[str, str]


def is_log(images: str) -> bool:
    """Whether this is the folder of a request log."""
    return not is_remote(images) and any(Path(images).glob(request_log.PATTERN))


def from_folder(
    images: str,
    model_dir: str,
    boundaries: Mapping[str, Sequence[float]],
    scratch: str,
    beam_arguments: Sequence[str],
    notes: list[str],
) -> Iterator[Observation]:
    """Classifies every image in and below a folder, local or remote; in no fixed order.

    Args:
        scratch: an existing folder that all workers can see; what is written there is not deleted.
        notes: receives sentences about what was not examined.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not is_remote(images) and not Path(images).is_dir():
        raise InputError(f"there is no folder {images}: give a folder of images, or that of a request log")
    root = images.rstrip("/") if is_remote(images) else str(Path(images).resolve())
    if next(list_files(os.fsencode(root)), None) is None:
        raise InputError(f"there are no pictures in {images}: give a folder of images, or that of a request log")
    pipeline = beam.Pipeline(options=PipelineOptions(list(beam_arguments)))
    _ = (
        pipeline
        | "Folder" >> beam.Create([os.fsencode(root)], reshuffle=False)
        | "ListFiles" >> beam.FlatMap(list_files)
        | "Spread" >> beam.Reshuffle()
        | "Together" >> beam.BatchElements(max_batch_size=predict.BATCH_SIZE)
        | "Read" >> beam.ParDo(_Read(root, model_limits(model_dir), boundaries))
        | "Observe" >> RunInference(_Handler(model_dir))
        | "ToLines" >> beam.Map(_to_line, ProgressCounter(None, "images"))
        | "Write" >> beam.io.WriteToText(f"{scratch}/{_LINES}")
    )
    pipeline.run().wait_until_finish()
    yield from _lines(scratch, msgspec.json.Decoder(Observation))


def from_log(
    folder: str,
    directory: str,
    boundaries: Mapping[str, Sequence[float]],
    scratch: str,
    beam_arguments: Sequence[str],
    notes: list[str],
) -> Iterator[Observation]:
    """The images in requests to a version of a model.

    If an image was not kept, only its resolution, aspect and format are known, from its header. A Beam job describes
    those that were kept; the arguments are as for `from_folder`.

    Raises:
        InputError: the model's folder is not named by a version.
    """
    name = directory.rstrip("/").rpartition("/")[2]
    if not name.isdigit():
        raise InputError(f"a request log is of versions by their numbers, and {directory} is none: name one in service")
    classes, limits = class_names(directory), model_limits(directory)

    def is_ours(one: request_log.LoggedImage) -> bool:
        return one.version == int(name) and (not one.probabilities or {*one.probabilities} == {*classes})

    damaged: list[str] = []
    files = {one.file for one in request_log.read(folder, damaged.append) if one.file and is_ours(one)}
    if damaged:
        notes.append(f"{len(damaged):,} lines of the log are damaged, and were passed over: {some(damaged, shown=3)}")
    files = {file for file in files if Path(folder, file).is_file()}  # the oldest are deleted
    described: dict[str, dict[str, str]] = {}
    if files:
        pipeline = beam.Pipeline(options=PipelineOptions(list(beam_arguments)))
        root = str(Path(folder).resolve())
        _ = (
            pipeline
            | "Files" >> beam.Create([os.fsencode(f"{root}/{file}") for file in sorted(files)])
            | "Together" >> beam.BatchElements(max_batch_size=predict.BATCH_SIZE)
            | "Read" >> beam.ParDo(_Read(root, limits, boundaries))
            | "ToLines" >> beam.Map(lambda one: msgspec.json.encode([one.path, one.slices]).decode())
            | "Write" >> beam.io.WriteToText(f"{scratch}/{_LINES}")
        )
        pipeline.run().wait_until_finish()
        described = dict(_lines(scratch, msgspec.json.Decoder(tuple[str, dict[str, str]])))
    others = 0
    for one in request_log.read(folder, lambda _: None):
        if not is_ours(one):
            others += 1
            continue
        slices = {"format": one.format.lower()} if one.format else {}
        if one.width and one.height:
            slices["aspect"] = slice_features.aspect(one.width, one.height)
            megapixels = one.width * one.height / 1e6
            slices["resolution"] = slice_features.bucket("resolution", megapixels, boundaries.get("resolution", ()))
        probabilities = () if one.error else tuple(one.probabilities[name] for name in classes)
        kept = one.file if one.file and one.file in files else ""
        slices |= described.get(kept, {})
        yield Observation(kept, one.seconds(), probabilities, one.error, one.novelty, slices)
    if others:
        notes.append(f"{others:,} images of the log were not looked at: another version of the model answered them")


def _lines(scratch: str, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    for name in checksums.files(scratch):
        if name.startswith(_LINES):
            with atomic_io.open_file(f"{scratch}/{name}", "rb") as file:
                yield from map(decoder.decode, file)


class _Read(beam.DoFn):
    """In: files. Out: these as the model takes them, and their slices."""

    def __init__(self, root: str, limits: ImageLimits, boundaries: Mapping[str, Sequence[float]]) -> None:
        self._root = root
        self._limits = limits
        self._boundaries = boundaries

    def setup(self) -> None:
        self._decoder = Decoder(read_image, self._limits)

    def teardown(self) -> None:
        self._decoder.close()

    def process(self, files: Sequence[bytes]) -> Iterator[_Picture]:
        pictures = map(self._opened, files)
        for batch in parallel.batches(pictures, predict.BATCH_SIZE, lambda one: len(one.encoded)):
            images = self._decoder.read([one.encoded for one in batch if not one.error])
            for one in batch:
                yield one if one.error else self._described(one, next(images))

    def _opened(self, file: bytes) -> _Picture:
        location = os.fsdecode(file)
        path = printable(location.removeprefix(f"{self._root}/"))
        time = None
        try:
            if not is_remote(location):
                time = Path(location).stat().st_mtime
            return _Picture(path, time, read_anywhere(location, self._limits), "", {})
        except RejectedError as error:
            return _Picture(path, time, b"", error.reason, {})
        except OSError as error:
            return _Picture(path, time, b"", str(error.strerror or error), {})

    def _described(self, one: _Picture, image: ReadImage | RejectedError) -> _Picture:
        if isinstance(image, RejectedError):
            return one._replace(encoded=b"", error=image.reason)
        return one._replace(encoded=image.encoded, slices=slice_features.describe(image, self._boundaries))


class _Handler(ModelHandler[_Picture, Observation, ServedModel]):
    """Loads the model once in each worker process, whose threads share it."""

    def __init__(self, model_dir: str) -> None:
        super().__init__()
        self._model_dir = model_dir

    def load_model(self) -> ServedModel:
        return predict.load_saved_model(self._model_dir)

    def run_inference(
        self, batch: Sequence[_Picture], model: ServedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Observation]:
        answers = _answers(model, [one.encoded for one in batch if not one.error])
        for one in batch:
            probabilities, error, novelty = ((), one.error, None) if one.error else next(answers)
            yield Observation(one.path, one.time, probabilities, error, novelty, one.slices)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"max_batch_size": predict.BATCH_SIZE}

    def get_num_bytes(self, batch: Sequence[_Picture]) -> int:
        return sum(len(one.encoded) for one in batch)


def _answers(model: ServedModel, images: Sequence[bytes]) -> Iterator[tuple[tuple[float, ...], str, float | None]]:
    if not images:
        return
    response = model.request(signatures.IMAGES, images)
    novelties = response.get(signatures.NOVELTY)
    for place, (error, row) in enumerate(zip(errors_of(response), response["probabilities"].tolist(), strict=True)):
        novelty = None if novelties is None or error else float(novelties[place])
        yield () if error else tuple(round(value, 6) for value in row), error, novelty


def _to_line(one: Observation, progress: ProgressCounter) -> str:
    progress.add(1)
    return msgspec.json.encode(one).decode()


def embed(model: ServedModel, folder: str, observations: Sequence[Observation], decoder: Decoder[bytes]) -> np.ndarray:
    """A vector for each observed image, float [n, d]: its embedding, or its probabilities if the model gives none."""
    if signatures.EMBED not in model.signatures:
        return np.array([one.probabilities for one in observations], float)
    found = []
    locations = (f"{folder.rstrip('/')}/{one.path}" for one in observations)
    for batch in predict.batches(predict.read(locations, decoder), predict.BATCH_SIZE):
        found.append(model.request(signatures.EMBED, [file.encoded for file in batch])["embedding"])
    return np.concatenate(found)
