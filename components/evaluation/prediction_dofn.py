"""Asks the candidate and the last blessed model about batches of test images: a Beam step, and whether they compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.utils.shared import Shared
from tfx.dsl.io import fileio

from components.evaluation.measures import score_bins
from components.serving.served_model import ServedModel, class_names, errors_of, first_line
from core import signatures, slices
from core import tfrecords as records
from core.artifacts.predictions import BASELINE, CANDIDATE, Answer, Prediction
from core.progress import ProgressCounter

_IDENTITY = ("image/path", "image/sha256")

LABEL = "label_xf"
"""Feature of `answers`: the true class's place in that order, -1 if the candidate does not know it."""


def read_scores(answers: str, models: Iterable[str]) -> dict[str, np.ndarray]:
    """What `SCORES_FILE` holds, from `answers`.

    Args:
        answers: pattern of the files with the examples that `Classify` made.
        models: names of those that were asked.
    """
    found: list[tuple[tuple[str, ...], dict[str, np.ndarray]]] = []
    for record in records.read(answers):
        identity = records.values(record)
        features = tf.train.Example.FromString(record).features.feature
        bins = {name: score_bins(np.asarray(features[name].float_list.value, float)) for name in models}
        found.append((tuple(records.text(identity.get(name, b"")) for name in _IDENTITY), bins))
    found.sort(key=lambda pair: pair[0])
    return {name: np.stack([bins[name] for _, bins in found]) for name in models} if found else {}


def why_not_comparable(baseline: str, candidate: str, records: Sequence[bytes]) -> str:
    """Why the last blessed model cannot be compared with the candidate; "" if it can.

    Args:
        baseline: its folder.
        candidate: the candidate's.
        records: a tf.Example to try it with, or none.
    """
    if not fileio.exists(baseline):
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


class Classify(beam.DoFn):
    """In: a batch of raw tf.Examples, serialised. Out: for each a `Prediction`, and a serialised tf.Example."""

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
        columns: dict[str, np.ndarray] = {}
        for name, model in self._worker.models.items():
            answer = model.request(signatures.EXAMPLES, batch)
            names = [records.text(c) for c in answer["classes"][0]]
            classes = classes or names  # the candidate's
            order = [names.index(c) for c in classes]
            columns[name] = np.nan_to_num(answer["probabilities"])[:, order]  # NaN is for ServingCheck to refuse
            columns[name][[bool(error) for error in errors_of(answer)]] = 0
        for number, record in enumerate(batch):
            features = records.values(record)
            rows = {name: column[number] for name, column in columns.items()}
            label = records.text(features.get(slices.LABEL, b""))
            place = classes.index(label) if label in classes else -1
            yield _prediction(features, label, place, rows, classes), _answers(features, place, rows)
        self._worker.progress.add(len(batch))


def _prediction(
    features: dict[str, bytes], label: str, place: int, rows: dict[str, np.ndarray], classes: list[str]
) -> Prediction:
    found = {name: _answer(row, place, classes) for name, row in rows.items()}
    named = {slices.name_of(n): records.text(v) for n, v in sorted(features.items()) if slices.is_slice(n)}
    named.pop(slices.LABEL, None)
    return Prediction(
        path=records.text(features.get("image/path", b"")),
        sha256=records.text(features.get("image/sha256", b"")),
        label=label,
        slices=named,
        baseline=found.get(BASELINE),
        **found[CANDIDATE]._asdict(),
    )


def _answer(row: np.ndarray, place: int, classes: list[str]) -> Answer:
    best = int(row.argmax())
    if place < 0 or not row.any():
        return Answer(classes[best] if row.any() else "", _short(row[best]), 0.0, len(row) + 1)
    ahead = int((row > row[place]).sum() + (row[:place] == row[place]).sum())
    return Answer(classes[best], _short(row[best]), _short(row[place]), ahead + 1)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _answers(features: dict[str, bytes], place: int, rows: dict[str, np.ndarray]) -> bytes:
    kept = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
        if slices.is_slice(name) or name in _IDENTITY
    }
    kept[LABEL] = tf.train.Feature(int64_list=tf.train.Int64List(value=[place]))
    for name, row in rows.items():
        if not row.any():  # no answer is a wrong one to TFMA too, which takes the first class of equals
            row[(place + 1) % len(row)] = np.finfo(np.float32).tiny
        kept[name] = tf.train.Feature(float_list=tf.train.FloatList(value=row.tolist()))
    return tf.train.Example(features=tf.train.Features(feature=kept)).SerializeToString()
