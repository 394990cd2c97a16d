"""Runs the candidate and the last blessed model on batches of test images: a Beam step, and whether they compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.utils.shared import Shared

from components.evaluation.predictions import score_bins
from components.serving.served_model import ServedModel, errors_of, first_line
from core import signatures, slices, tfrecords
from core.artifacts.exported_model import class_names
from core.artifacts.predictions import BASELINE, CANDIDATE, TARGET, Classification, Prediction
from core.examples import PATH, SHA256
from core.progress import ProgressCounter


def collect_score_bins(pattern: str, models: Iterable[str]) -> dict[str, np.ndarray]:
    """What `core.artifacts.predictions.Scores.bins` holds, from the files with the examples that `Predict` made."""
    found: list[tuple[tuple[str, ...], dict[str, np.ndarray]]] = []
    for record in tfrecords.read(pattern):
        identity = tfrecords.values(record)
        features = tf.train.Example.FromString(record).features.feature
        bins = {name: score_bins(np.asarray(features[name].float_list.value, float)) for name in models}
        found.append((tuple(tfrecords.text(identity.get(name, b"")) for name in (PATH, SHA256)), bins))
    found.sort(key=lambda pair: pair[0])
    return {name: np.stack([bins[name] for _, bins in found]) for name in models} if found else {}


def why_not_comparable(baseline: str, candidate: str, records: Sequence[bytes]) -> str:
    """Why the last blessed model cannot be compared with the candidate, "" if it can; both are folders.

    `records` are a tf.Example to try it with, or none.
    """
    if not tf.io.gfile.exists(baseline):
        return "the last blessed model's files are gone"
    try:
        with ServedModel(baseline) as model:
            classes = class_names(baseline)
            if records:
                model.request(signatures.EXAMPLES, records)
    except (OSError, tf.errors.OpError, KeyError, ValueError) as error:
        return f"the last blessed model no longer loads: {first_line(error) or type(error).__name__}"
    known = class_names(candidate)
    if set(classes) == set(known):
        return ""
    differing = ", ".join(sorted(set(classes) ^ set(known))[:5])
    return f"the last blessed model has other classes ({len(classes)}, now {len(known)}; {differing} differ)"


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share: models by name, the candidate first."""

    models: dict[str, ServedModel]
    progress: ProgressCounter


class Predict(beam.DoFn):
    """In: a batch of serialized raw tf.Examples. Out: for each a `Prediction`, and a serialized tf.Example for TFMA."""

    def __init__(self, directories: dict[str, str], shared: Shared, total: int | None) -> None:
        self._directories = directories
        self._shared = shared
        self._total = total

    def setup(self) -> None:  # noqa: D102
        self._worker = self._shared.acquire(self._open)

    def _open(self) -> _Worker:
        models = {name: ServedModel(directory) for name, directory in self._directories.items()}
        return _Worker(models, ProgressCounter(self._total, "images"))

    def process(self, batch: Sequence[bytes]) -> Iterator[tuple[Prediction, bytes]]:  # noqa: D102
        classes: list[str] = []
        probabilities: dict[str, np.ndarray] = {}
        for name, model in self._worker.models.items():
            outputs = model.request(signatures.EXAMPLES, batch)
            names = [tfrecords.text(c) for c in outputs["classes"][0]]
            classes = classes or names  # the candidate's
            order = [names.index(c) for c in classes]
            probabilities[name] = np.nan_to_num(outputs["probabilities"])[:, order]  # NaN is for ServingCheck to refuse
            probabilities[name][[bool(error) for error in errors_of(outputs)]] = 0
        for number, record in enumerate(batch):
            features = tfrecords.values(record)
            rows = {name: column[number] for name, column in probabilities.items()}
            label = tfrecords.text(features.get(slices.LABEL, b""))
            target = classes.index(label) if label in classes else -1
            yield _prediction(features, label, target, rows, classes), _materialized(features, target, rows)
        self._worker.progress.add(len(batch))


def _prediction(
    features: dict[str, bytes], label: str, target: int, rows: dict[str, np.ndarray], classes: list[str]
) -> Prediction:
    models = {name: _classification(row, target, classes) for name, row in rows.items()}
    values = {slices.name_of(n): tfrecords.text(v) for n, v in sorted(features.items()) if slices.is_slice(n)}
    values.pop(slices.LABEL, None)
    return Prediction(
        **dataclasses.asdict(models[CANDIDATE]),
        path=tfrecords.text(features.get(PATH, b"")),
        sha256=tfrecords.text(features.get(SHA256, b"")),
        label=label,
        slices=values,
        baseline=models.get(BASELINE),
    )


def _classification(row: np.ndarray, target: int, classes: list[str]) -> Classification:
    best = int(row.argmax())
    if target < 0 or not row.any():
        return Classification(classes[best] if row.any() else "", _short(row[best]), 0.0, len(row) + 1)
    ahead = int((row > row[target]).sum() + (row[:target] == row[target]).sum())
    return Classification(classes[best], _short(row[best]), _short(row[target]), ahead + 1)


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
        if not row.any():  # no prediction is a wrong one to TFMA too, which takes the first class of equals
            row[(target + 1) % len(row)] = np.finfo(np.float32).tiny
        kept[name] = tf.train.Feature(float_list=tf.train.FloatList(value=row.tolist()))
    return tf.train.Example(features=tf.train.Features(feature=kept)).SerializeToString()
