"""Batch inference: classifies a folder of any size as a Beam job, where the workers are and the files lie.

In: a folder.  ListFiles -> Spread -> Together -> ReadFiles -> Classify (one model a worker process) -> Write.
Out: records.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from components.ingestion.decoder import Decoder
from components.ingestion.image_reading import for_model
from components.serving.served_model import ServedModel
from components.serving.tflite_model import TFLiteModel
from core import storage
from core.errors import InputError
from core.image_limits import ImageLimits
from core.progress import ProgressCounter
from core.storage import is_remote
from pipeline.inference import names, predict, records

if TYPE_CHECKING:
    from core.signing import PublicKey

_LOG = logging.getLogger(__name__)

_RECORDS, _ERRORS = "records", "errors"


def batch_predict(
    model_dir: str,
    images: str,
    output: str,
    *,
    file_format: records.Format = "jsonl",
    top_k: int = 3,
    shards: int = 1,
    beam_arguments: Sequence[str] = (),
    key: PublicKey | None = None,
    say: Callable[[str], None] = _LOG.info,
) -> records.Counts:
    """Classifies every file in and below a folder; the records are those of `predict`, in no fixed order.

    Args:
        model_dir: a SavedModel's folder, a TensorFlow Lite file of ours, or a push directory, whose latest good
            version is taken; local or remote.
        images: the folder; local, or of any file system Beam reads, such as `gs://bucket/photos`.
        output: the file to write, which appears when the job has ended well.
        top_k: how many classes to list, at most as many as there are.
        shards: files to write, each by one worker; more than one are called `name-00000-of-00004.jsonl` and so on.
        beam_arguments: Beam's pipeline options; without any the job runs in this process.
        key: that must have signed the model, which is asked here; workers compare checksums.
        say: gets a sentence about the model if there is one.

    Raises:
        InputError: there is no such folder or nothing in it, no such model, or a number is less than 1.
    """
    predict.check_positive(top_k=top_k, shards=shards)
    if not images.strip() or not output.strip():
        raise InputError("give IMAGES, a folder of images, and OUTPUT, the file to write")
    if set("*?[") & set(output):
        raise InputError(f"OUTPUT is {output}; Beam takes *, ? and [ for patterns: give a name without")
    _check_no_folder(output)
    images = images.rstrip("/") or "/"
    if not is_remote(images) and not Path(images).is_dir():
        raise InputError(f"there is no folder {images}: give a folder of images")
    if next(list_files(os.fsencode(_absolute(images))), None) is None:
        raise InputError(f"there are no pictures in {images}: give a folder of images")
    directory = _absolute(predict.find_model(model_dir, say, key))
    predict.load(directory, say, key).close()  # a model that cannot be loaded is reported before a job starts
    suffix = Path(output).suffix if shards > 1 else ""
    pipeline = beam.Pipeline(options=PipelineOptions(list(beam_arguments)))
    _ = (
        pipeline
        | "Classify" >> ClassifyFolder(images, directory, top_k)
        | "ToLines" >> beam.Map(_to_line, file_format, top_k, ProgressCounter(None, "images"))
        | "Write"
        >> beam.io.WriteToText(
            output.removesuffix(suffix),
            suffix,
            num_shards=shards,
            shard_name_template="" if shards == 1 else None,
            header=records.header(file_format, top_k),
        )
    )
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(__name__))["counters"]
    found = {counter.key.metric.name: counter.result for counter in counters}
    return records.Counts(found.get(_RECORDS, 0), found.get(_ERRORS, 0))


def _check_no_folder(output: str) -> None:
    """Raises InputError for a folder, which Beam would delete with all that is in it to put the file in its place."""
    remote = is_remote(output)
    there = next(storage.find(output), None) is not None if remote else Path(output).is_dir()
    if there or output.endswith("/"):
        within = f"{output.rstrip('/')}/predictions.jsonl"
        raise InputError(f"OUTPUT is {output}, a folder: give the name of a file to write, such as {within}")


@beam.ptransform_fn
def ClassifyFolder(  # noqa: N802 - a transform is a class to its users
    pipeline: beam.pvalue.PBegin, folder: str, model_dir: str, top_k: int
) -> beam.PCollection:
    """In: nothing. Out: a record for each file in and below a folder, as of `classify`."""
    root = _absolute(folder)
    return (
        pipeline
        | "Folder" >> beam.Create([os.fsencode(root)], reshuffle=False)
        | "ListFiles" >> beam.FlatMap(list_files)
        | "Spread" >> beam.Reshuffle()
        | "Together" >> beam.BatchElements(max_batch_size=predict.BATCH_SIZE)
        | "ReadFiles" >> beam.ParDo(_ReadFiles(folder, root, predict.limits_of(model_dir)))
        | "Infer" >> RunInference(_Handler(model_dir, top_k))
    )


class _ReadFiles(beam.DoFn):
    """In: files. Out: these as the model takes them."""

    def __init__(self, folder: str, root: str, limits: ImageLimits) -> None:
        self._folder = folder
        self._root = root
        self._limits = limits

    def setup(self) -> None:
        self._decoder = Decoder(for_model, self._limits)

    def teardown(self) -> None:
        self._decoder.close()

    def process(self, files: Sequence[bytes]) -> Iterator[predict.ImageFile]:
        return predict.read(map(os.fsdecode, files), self._decoder, self._shown)

    def _shown(self, location: str) -> str:
        if is_remote(self._folder):
            return location
        return str(Path(self._folder) / Path(location).relative_to(self._root))


class _Handler(ModelHandler[predict.ImageFile, dict[str, Any], ServedModel | TFLiteModel]):
    """Has the model loaded once in each worker process, and its threads share it."""

    def __init__(self, model_dir: str, top_k: int) -> None:
        super().__init__()
        self._model_dir = model_dir
        self._top_k = top_k

    def load_model(self) -> ServedModel | TFLiteModel:
        return predict.load(self._model_dir)

    def run_inference(
        self,
        batch: Sequence[predict.ImageFile],
        model: ServedModel | TFLiteModel,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[dict[str, Any]]:
        return predict.classify(model, batch, self._top_k)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"max_batch_size": predict.BATCH_SIZE}

    def get_num_bytes(self, batch: Sequence[predict.ImageFile]) -> int:
        return sum(len(file.encoded) for file in batch)


def _to_line(record: dict[str, Any], file_format: records.Format, top_k: int, progress: ProgressCounter) -> str:
    Metrics.counter(__name__, _RECORDS).inc()
    Metrics.counter(__name__, _ERRORS).inc("error" in record)
    progress.add(1)
    return records.line(record, file_format, top_k)


def list_files(root: bytes) -> Iterator[bytes]:
    """The files in and below a folder that are to be classified; bytes, since names need not be UTF-8."""
    folder = os.fsdecode(root)
    if is_remote(folder):
        for match in FileSystems.match([f"{glob.escape(folder)}/**"]):
            for found in match.metadata_list:
                inside = found.path.removeprefix(f"{folder}/")
                if inside and not inside.endswith("/") and names.is_wanted(inside.split("/")):
                    yield found.path.encode()
    else:
        yield from map(os.fsencode, names.expand([folder]))


def _absolute(folder: str) -> str:
    """The folder for a process that was started anywhere."""
    return folder if is_remote(folder) else str(Path(folder).resolve())
