"""A Beam step that runs the candidate and the last blessed model on batches of test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from components.evaluation.answers import Answer, Answers
from components.evaluation.predictions import score_bins
from components.features.feature_index import SharedFeatureIndex
from components.serving.served_model import TOLERANCE, first_line
from components.serving.tflite_model import TFLiteModel
from core import slices, tfrecords
from core.artifacts.exported_model import class_names
from core.artifacts.features import FeatureFormat
from core.artifacts.predictions import BASELINE, CANDIDATE, TARGET, Classification, Prediction
from core.errors import cause_of
from core.examples import IMAGE, PATH, SHA256
from core.progress import ProgressCounter
from core.settings.export import FORMATS, ExportFormat

CHECKED, DISAGREED = "checked", "disagreed"
"""Counters: for how many images a model answered both from features and from the image, and how often it disagreed."""


def collect_score_bins(pattern: str, models: Iterable[str]) -> dict[str, np.ndarray]:
    """The value of `core.artifacts.predictions.Scores.bins`, from the examples that `Predict` wrote."""
    found: list[tuple[tuple[str, ...], dict[str, np.ndarray]]] = []
    for record in tfrecords.read(pattern):
        identity = tfrecords.values(record)
        features = tf.train.Example.FromString(record).features.feature
        bins = {name: score_bins(np.asarray(features[name].float_list.value, float)) for name in models}
        found.append((tuple(tfrecords.text(identity.get(name, b"")) for name in (PATH, SHA256)), bins))
    found.sort(key=lambda pair: pair[0])
    return {name: np.stack([bins[name] for _, bins in found]) for name in models} if found else {}


def open_baseline(directory: str, candidate: str, records: Sequence[bytes]) -> Answers | str:
    """The last blessed model, or why it cannot be compared with the candidate; both are given by folder.

    `records` holds a tf.Example to try it with, or nothing.
    """
    if not tf.io.gfile.exists(directory):
        return "the last blessed model's files are gone"
    try:
        model = Answers(directory)
        classes = class_names(directory)
        if records:
            model.from_images(records)
    except (OSError, tf.errors.OpError, KeyError, ValueError) as error:
        if cause_of(error).blame == "machine":  # which says nothing about the model
            raise
        return f"the last blessed model no longer loads: {first_line(error) or type(error).__name__}"
    known = class_names(candidate)
    if set(classes) == set(known):
        return model
    model.close()
    differing = ", ".join(sorted(set(classes) ^ set(known))[:5])
    return f"the last blessed model has other classes ({len(classes)}, now {len(known)}; {differing} differ)"


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share: models by name, the candidate first."""

    models: Mapping[str, Answers]
    exports: Mapping[ExportFormat, TFLiteModel]
    progress: ProgressCounter


@dataclasses.dataclass(eq=False)
class Predict(beam.DoFn):
    """In: a batch of serialized raw tf.Examples. Out: a `Prediction` and a serialized tf.Example for TFMA, for each.

    A model in `features` answers from the images' stored features. For every mistake of the candidate and one image of
    each batch it also answers from the image itself; `DISAGREED` counts the differences.

    Attributes:
        directories: of the models, by name.
        exports: the files that the candidate was converted to, by format; their input is the candidate's preprocessed
            image.
        features: how the stored features that a model takes are stored, by the model's name.
        index: of the stored features.
    """

    directories: Mapping[str, str]
    exports: Mapping[ExportFormat, str]
    features: Mapping[str, FeatureFormat]
    index: SharedFeatureIndex
    shared: Shared
    total: int | None

    def __post_init__(self) -> None:
        self._checked = Metrics.counter(self.__class__, CHECKED)
        self._disagreed = Metrics.counter(self.__class__, DISAGREED)

    def setup(self) -> None:  # noqa: D102
        self._worker = self.acquire({})
        self._index = self.index.open()

    def acquire(self, opened: Mapping[str, Answers]) -> _Worker:
        """This process's worker, which uses the first caller's models, if any."""

        def start() -> _Worker:
            models = {name: opened.get(name) or Answers(directory) for name, directory in self.directories.items()}
            exports = {name: TFLiteModel(path) for name, path in self.exports.items()}
            return _Worker(models, exports, ProgressCounter(self.total, "images"))

        return self.shared.acquire(start)

    def process(self, batch: Sequence[bytes]) -> Iterator[tuple[Prediction, bytes]]:  # noqa: D102
        records = [tfrecords.values(record) for record in batch]
        labels = [tfrecords.text(record.get(slices.LABEL, b"")) for record in records]
        stored = [self._index.read(record.get(SHA256, b"")) if self._index else None for record in records]
        values = [value for found in stored if found for value in found]
        classes: list[str] = []
        answers: dict[str, Answer] = {}
        checked: list[int] = []
        for name, model in self._worker.models.items():
            by_features = self.features.get(name) if len(values) == len(batch) else None
            answer = model.from_features(by_features, values) if by_features else model.from_images(batch)
            found = answer.probabilities
            if not classes:  # the candidate's
                classes = answer.classes
                best = found.argmax(axis=1)
                checked = [n for n, label in enumerate(labels) if n == 0 or classes[best[n]] != label]
            if by_features:
                chosen = checked if name == CANDIDATE else checked[:1]
                exact = model.from_images([batch[number] for number in chosen]).probabilities
                self._checked.inc(len(chosen))
                self._disagreed.inc(int((np.abs(exact - found[chosen]).max(axis=1) > TOLERANCE).sum()))
            in_order = found[:, [answer.classes.index(c) for c in classes]]
            answers[name] = answer._replace(classes=classes, probabilities=in_order)
        if self._worker.exports:
            pixels, good = self._worker.models[CANDIDATE].pixels([record.get(IMAGE, b"") for record in records])
            for name, export in self._worker.exports.items():
                found = np.where(good[:, None], np.nan_to_num(export.from_pixels(pixels)), 0)
                in_order = found[:, [export.classes.index(c) for c in classes]]
                answers[name] = Answer(classes, in_order, np.zeros(len(batch)), [""] * len(batch))
        for number, (record, label) in enumerate(zip(records, labels, strict=True)):
            target = classes.index(label) if label in classes else -1
            models = {name: _classification(answer, number, target) for name, answer in answers.items()}
            rows = {name: answer.probabilities[number] for name, answer in answers.items()}
            yield _prediction(record, label, models), _materialized(record, target, rows)
        self._worker.progress.add(len(batch))


def _prediction(features: dict[str, bytes], label: str, models: dict[str, Classification]) -> Prediction:
    values = {slices.name_of(n): tfrecords.text(v) for n, v in sorted(features.items()) if slices.is_slice(n)}
    values.pop(slices.LABEL, None)
    return Prediction(
        **dataclasses.asdict(models[CANDIDATE]),
        path=tfrecords.text(features.get(PATH, b"")),
        sha256=tfrecords.text(features.get(SHA256, b"")),
        label=label,
        slices=values,
        baseline=models.get(BASELINE),
        exports={name: models[name] for name in FORMATS if name in models},
    )


def _classification(answer: Answer, number: int, target: int) -> Classification:
    row = answer.probabilities[number]
    best = int(row.argmax())
    known = target >= 0 and row.any()
    ahead = int((row > row[target]).sum() + (row[:target] == row[target]).sum()) if known else len(row)
    return Classification(
        predicted=answer.classes[best] if row.any() else "",
        probability=_short(row[best]),
        label_probability=_short(row[target]) if known else 0.0,
        rank=ahead + 1,
        novelty=_short(answer.novelty[number]),
        reason=answer.reasons[number],
    )


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _materialized(features: dict[str, bytes], target: int, rows: dict[str, np.ndarray]) -> bytes:
    kept = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
        if slices.is_slice(name) or name in (PATH, SHA256)
    }
    kept[TARGET] = tf.train.Feature(int64_list=tf.train.Int64List(value=[target]))
    for name, row in rows.items():
        if not row.any():  # make TFMA, which takes the first of equal classes, count it as wrong too
            row[(target + 1) % len(row)] = np.finfo(np.float32).tiny
        kept[name] = tf.train.Feature(float_list=tf.train.FloatList(value=row.tolist()))
    return tf.train.Example(features=tf.train.Features(feature=kept)).SerializeToString()
