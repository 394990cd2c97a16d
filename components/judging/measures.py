"""Metrics from the answers for single images, with intervals: what TFMA's sums cannot give.

TFMA measures the values (components/model_gate.py reads them); here are how sure they are, and what changed between two
models on the same images. Shares have Wilson's interval and Tango's for the change; all else is resampled: the images
are weighted at random, both models' alike (Poisson bootstrap, Hanley and MacGibbon 2006), and measured again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from components.judging import intervals
from components.judging.intervals import Interval
from components.judging.prediction import Answer

SHARES = ("accuracy", "top_3_accuracy")
"""Metrics that count images."""

LOSS = "cross_entropy"

CALIBRATION = "expected_calibration_error"

AVERAGES = ("precision", "recall", "f1")
"""Per class; as `macro_…` every class counts the same, as `weighted_…` by its images. Over classes that have images."""

RESAMPLED = (LOSS, CALIBRATION, *(f"{kind}_{name}" for kind in ("macro", "weighted") for name in AVERAGES))

LOWER_IS_BETTER = frozenset({LOSS, CALIBRATION})
"""Metrics whose drop in quality is a rise in value."""

_RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time: 32 MB
_CALIBRATION_BINS = 10  # as components.judging.tfma_metrics has them
_LEAST_PROBABILITY = 1e-7  # as Keras clips


@dataclasses.dataclass(frozen=True)
class Answers:
    """One model's answers for n images, as columns [n].

    Attributes:
        label: number of the true class.
        predicted: of the most probable class.
        rank: of the true class, 1 being the most probable.
        loss: minus the logarithm of the true class's probability.
        confidence: the highest probability.
    """

    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.label)

    def successes(self, metric: str) -> np.ndarray:
        """Which images count for one of `SHARES`, bool [n]."""
        return self.predicted == self.label if metric == "accuracy" else self.rank <= 3

    def of(self, images: np.ndarray) -> Answers:
        """Those for some of the images; bool or int [m]."""
        return Answers(*(getattr(self, field.name)[images] for field in dataclasses.fields(self)))


def columns(labels: Sequence[str], answers: Sequence[Answer], classes: dict[str, int]) -> Answers:
    """Answers as columns.

    Args:
        labels: the true classes.
        answers: of one model, for the same images.
        classes: class -> number; every label and every predicted class must be in it.
    """
    probability = np.array([a.label_probability for a in answers], float)
    return Answers(
        label=np.array([classes[label] for label in labels], int),
        predicted=np.array([classes[a.predicted] for a in answers], int),
        rank=np.array([a.rank for a in answers], int),
        loss=-np.log(np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)),
        confidence=np.array([a.probability for a in answers], float),
    )


@dataclasses.dataclass(frozen=True)
class Resampled:
    """A metric's value in every resample [r] that was drawn from `count` images."""

    value: float
    samples: np.ndarray
    count: int

    @property
    def error(self) -> float:
        """The standard error."""
        return float(self.samples.std(ddof=1))

    @property
    def corrected(self) -> float:
        """The value without the bias that resampling shows: a calibration error is never 0 by chance."""
        return 2 * self.value - float(self.samples.mean())

    def interval(self, confidence: float) -> Interval:
        """The percentile interval, which holds the value."""
        low, high = np.quantile(self.samples, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(self.value, min(float(low), self.value), max(float(high), self.value), self.count)

    def minus(self, other: Resampled) -> Resampled:
        """The difference of two metrics that were resampled alike."""
        return Resampled(self.value - other.value, self.samples - other.samples, self.count)


def share(answers: Answers, metric: str, confidence: float) -> Interval:
    """The interval of one of `SHARES`."""
    return intervals.wilson(int(answers.successes(metric).sum()), answers.count, confidence)


def discordant(answers: Answers, before: Answers, metric: str) -> tuple[int, int]:
    """How many images count for one of `SHARES` now and did not before, and the reverse."""
    now, then = answers.successes(metric), before.successes(metric)
    return int((now & ~then).sum()), int((then & ~now).sum())


def resample(models: Sequence[Answers], seed: int = 0) -> list[dict[str, Resampled]]:
    """Resamples `RESAMPLED` of several models' answers for the same images, all with the same weights.

    Returns:
        For each model, metric -> values.
    """
    count = models[0].count
    values = [_measure(model, np.ones((1, count))) for model in models]
    generator = np.random.default_rng(seed)
    samples: list[dict[str, list[np.ndarray]]] = [{name: [] for name in RESAMPLED} for _ in models]
    for size in _chunks(count):
        weights = generator.poisson(1.0, (size, count)).astype(float)
        weights[weights.sum(axis=1) == 0] = 1.0
        for model, found in zip(models, samples, strict=True):
            for name, column in _measure(model, weights).items():
                found[name].append(column)
    return [
        {name: Resampled(float(value[name][0]), np.concatenate(found[name]), count) for name in RESAMPLED}
        for value, found in zip(values, samples, strict=True)
    ]


def _chunks(count: int) -> Iterator[int]:
    size = max(1, min(_RESAMPLES, _CHUNK // max(count, 1)))
    for start in range(0, _RESAMPLES, size):
        yield min(size, _RESAMPLES - start)


def _measure(answers: Answers, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each of `RESAMPLED` for weights [r, n]: float [r]."""
    total = weights.sum(axis=1)
    right = (answers.predicted == answers.label).astype(float)
    bins = np.minimum((answers.confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = weights @ (_one_hot(bins, np.arange(_CALIBRATION_BINS)) * (answers.confidence - right)[:, None])
    result = {LOSS: weights @ answers.loss / total, CALIBRATION: np.abs(gaps).sum(axis=1) / total}
    present = np.unique(answers.label)
    true = _one_hot(answers.label, present)
    support, told = weights @ true, weights @ _one_hot(answers.predicted, present)
    hits = weights @ (true * right[:, None])
    by_class = dict(zip(AVERAGES, averages(hits, told, support), strict=True))
    occurs = support > 0
    for name, values in by_class.items():
        result[f"macro_{name}"] = (values * occurs).sum(axis=1) / occurs.sum(axis=1)
        result[f"weighted_{name}"] = (values * support).sum(axis=1) / total
    return result


def averages(hits: np.ndarray, told: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 from counts of any shape; 0 where there is nothing to divide by, as in scikit-learn."""

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=whole > 0)

    return ratio(hits, told), ratio(hits, support), ratio(2 * hits, told + support)


def _one_hot(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """float [n, k]: which of `of` each value is."""
    return (values[:, None] == of[None, :]).astype(float)
