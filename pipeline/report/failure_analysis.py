"""What is behind a failure: the mistakes on its slice, what they have in common, and images to judge them by."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from core.artifacts.last_run import Failure
from core.artifacts.predictions import Prediction
from core.artifacts.verdict import OVERALL, Confusion
from pipeline.report.confusions import confused_pairs
from pipeline.report.thumbnails import Thumbnail

_SHOWN_MISTAKES = 8
_TRAITS = 3
_RISK = 0.01  # of taking chance for a trait, over all values of all features


@dataclasses.dataclass(frozen=True)
class Trait:
    """A value that some images, such as mistakes, have more often than others, beyond chance.

    Attributes:
        name: `brightness=dark`.
        count: how many of them have it.
        others: how many of the others.
    """

    name: str
    count: int
    others: int


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """What the model learned a class from: how many images (None if unknown), and some of them."""

    name: str
    count: int | None
    samples: list[Thumbnail]


@dataclasses.dataclass(frozen=True)
class FailureAnalysis:
    """What is behind one failure.

    Attributes:
        count: images in the slice.
        mistakes: how many of them are wrong.
        lost: how many of these the last blessed model got right; None if there is none to compare with.
        confusions: the mistakes by class, most frequent first.
        confidence: median probability of the wrong classes; None if there is no mistake.
        traits: what the mistakes have in common, unlike the slice's other images; the most significant first.
        slice_traits: what the slice's images have in common, unlike the rest of the test split; likewise.
        outside: how many images the rest has.
        images: the mistakes to look at.
        learned: the two classes that are confused most often.
    """

    count: int
    mistakes: int
    lost: int | None
    confusions: list[Confusion]
    confidence: float | None
    traits: list[Trait]
    slice_traits: list[Trait]
    outside: int
    images: list[tuple[Prediction, Thumbnail]]
    learned: list[TrainingImages]

    @property
    def correct(self) -> int:
        """Images of the slice that are right."""
        return self.count - self.mistakes


def shown_images(failures: Sequence[Failure], predictions: Sequence[Prediction]) -> set[str]:
    """Paths of the test images that `analyze` shows."""
    return {p.path for failure in failures for p in _worst(failure, _mistakes(failure, predictions))}


def shown_classes(failures: Sequence[Failure], predictions: Sequence[Prediction]) -> list[str]:
    """Classes of which `analyze` shows training images."""
    pairs = [pair for failure in failures for pair in confused_pairs(_mistakes(failure, predictions))[:1]]
    return list(dict.fromkeys(name for pair in pairs for name in (pair.actual, pair.predicted)))


def analyze(
    failure: Failure,
    predictions: Sequence[Prediction],
    images: Mapping[str, Thumbnail],
    trained: Mapping[str, int],
    samples: Mapping[str, list[Thumbnail]],
) -> FailureAnalysis | None:
    """Finds what is behind one failure; None if it is not about a slice.

    Args:
        failure: why the run failed or was refused.
        predictions: for the whole test split.
        images: test images by path, as far as they were found.
        trained: training images by class.
        samples: some of these by class.
    """
    if not failure.slice:
        return None
    members = [p for p in predictions if _is_in(p, failure)]
    rest = [p for p in predictions if not _is_in(p, failure)]
    wrong = [p for p in members if not p.right]
    pairs = confused_pairs(wrong)
    compared = any(p.baseline for p in members)
    return FailureAnalysis(
        count=len(members),
        mistakes=len(wrong),
        lost=sum(p.baseline is not None and p.baseline.predicted == p.label for p in wrong) if compared else None,
        confusions=pairs,
        confidence=statistics.median(p.probability for p in wrong) if wrong else None,
        traits=traits(wrong, [p for p in members if p.right]),
        slice_traits=[t for t in traits(members, rest) if t.name not in failure.slice],
        outside=len(rest),
        images=[(p, images[p.path]) for p in _worst(failure, wrong) if p.path in images],
        learned=[
            TrainingImages(name, trained.get(name), samples[name])
            for pair in pairs[:1]
            for name in (pair.actual, pair.predicted)
            if name in samples
        ],
    )


def traits(some: Sequence[Prediction], others: Sequence[Prediction]) -> list[Trait]:
    """Classes and values of slice features that some images have more often than others, beyond chance.

    By Fisher's exact test, one-sided, with Bonferroni's correction for the number of values.
    """
    counts = collections.Counter(value for p in some for value in _values(p))
    counts_others = collections.Counter(value for p in others for value in _values(p))
    found = []
    for name, count in sorted(counts.items()):
        table = [[count, len(some) - count], [counts_others[name], len(others) - counts_others[name]]]
        p_value = float(stats.fisher_exact(table, alternative="greater")[1])
        if p_value * len(counts) <= _RISK:
            found.append((p_value, Trait(name, count, counts_others[name])))
    return [trait for _, trait in sorted(found, key=lambda pair: (pair[0], pair[1].name))[:_TRAITS]]


def _values(prediction: Prediction) -> set[str]:
    return {f"label={prediction.label}", *(f"{name}={value}" for name, value in prediction.slices.items())}


def _is_in(prediction: Prediction, failure: Failure) -> bool:
    """Whether the image is in the failure's slice, if it has one."""
    return failure.slice is not None and (failure.slice == OVERALL or prediction.is_in(failure.slice))


def _mistakes(failure: Failure, predictions: Sequence[Prediction]) -> list[Prediction]:
    return [p for p in predictions if not p.right and _is_in(p, failure)]


def _worst(failure: Failure, wrong: Sequence[Prediction]) -> list[Prediction]:
    """The mistakes to show: as the gate ordered them, else the worst."""
    place = {path: number for number, path in enumerate(failure.images)}
    return sorted(wrong, key=lambda p: (place.get(p.path, len(place)), p.label_probability, p.path))[:_SHOWN_MISTAKES]
