"""The answers for single images as columns, and the metrics that are sums over them: shares, and what is resampled.

TFMA measures the values (components/model_gate.py reads them); the single answers say how sure these are, and what
changed between two models on the same images. Shares have Wilson's interval and Tango's for the change; losses are
resampled: the images are weighted at random, both models' alike (Poisson bootstrap, Hanley and MacGibbon 2006), and
measured again. Means over classes are in `class_means`, the calibration error by itself in `calibration`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from components.evaluation import intervals
from components.evaluation.intervals import Interval
from core.artifacts.predictions import Answer

SHARES = ("accuracy", "top_3_accuracy")
"""Metrics that count images."""

LOSS = "cross_entropy"

CALIBRATION = "expected_calibration_error"

AVERAGES = ("precision", "recall", "f1")
AREA = "auc"
MEANS = tuple(f"{kind}_{name}" for kind in ("macro", "weighted") for name in (*AVERAGES, AREA))
"""Over classes that have images; for `macro_…` every class counts the same, for `weighted_…` by its images."""

RESAMPLED = (LOSS, CALIBRATION)

JUDGED = (*SHARES, *RESAMPLED, *MEANS)
"""Metrics that have intervals, and that bounds may be set on."""

LOWER_IS_BETTER = frozenset({LOSS, CALIBRATION})
"""Metrics whose drop in quality is a rise in value."""

_RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time: 32 MB
_CALIBRATION_BINS = 10  # as components.evaluation.tfma_metrics has them
_LEAST_PROBABILITY = 1e-7  # as Keras clips

SCORE_BINS = 1024
"""Of the logit, from -16 to 16: 1/32 wide. Probabilities of a float32 softmax reach about 1e-7."""

_MOST_LOGIT = 16.0


@dataclasses.dataclass(frozen=True)
class Answers:
    """One model's answers for n images, as columns [n].

    Attributes:
        label: number of the true class.
        predicted: of the most probable class.
        rank: of the true class, 1 being the most probable.
        loss: minus the logarithm of the true class's probability.
        confidence: the highest probability.
        scores: `score_bins` of the probability of every class that the model knows, [n, k]; None where not kept.
    """

    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    scores: np.ndarray | None = None

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.label)

    def successes(self, metric: str) -> np.ndarray:
        """Which images count for one of `SHARES`, bool [n]."""
        return self.predicted == self.label if metric == "accuracy" else self.rank <= 3

    def of(self, images: np.ndarray) -> Answers:
        """Those for some of the images; bool or int [m]."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Answers(**{name: column[images] for name, column in given.items() if column is not None})


def columns(
    labels: Sequence[str], answers: Sequence[Answer], classes: dict[str, int], scores: np.ndarray | None = None
) -> Answers:
    """Answers as columns.

    Args:
        labels: the true classes.
        answers: of one model, for the same images.
        classes: class -> number; every label and every predicted class must be in it, those of `scores` first.
        scores: `score_bins` of all probabilities, for the same images.
    """
    probability = np.array([a.label_probability for a in answers], float)
    return Answers(
        label=np.array([classes[label] for label in labels], int),
        predicted=np.array([classes[a.predicted] for a in answers], int),
        rank=np.array([a.rank for a in answers], int),
        loss=-np.log(np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)),
        confidence=np.array([a.probability for a in answers], float),
        scores=scores,
    )


def score_bins(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities by the bin of their logit, int16 of the same shape; areas under ROC curves are made from these."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1))
    return np.clip((logits / _MOST_LOGIT + 1) / 2 * SCORE_BINS, 0, SCORE_BINS - 1).astype(np.int16)


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
    excess = answers.confidence - (answers.predicted == answers.label)
    in_bin = bins_of(answers.confidence)[:, None] == np.arange(_CALIBRATION_BINS)
    gaps = weights @ (in_bin * excess[:, None])
    return {LOSS: weights @ answers.loss / total, CALIBRATION: np.abs(gaps).sum(axis=1) / total}


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of the calibration error that each probability is in, from 0; int [n]."""
    return np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)


def averages(hits: np.ndarray, told: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 from counts of any shape; 0 where there is nothing to divide by, as in scikit-learn."""

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=whole > 0)

    return ratio(hits, told), ratio(hits, support), ratio(2 * hits, told + support)
