"""How the training images differ from those of an earlier run, by the statistics of both."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from core import examples, slices
from core.artifacts.base import split_dir
from core.artifacts.nodes import STATISTICS_FILE

_UNIQUE = (examples.PATH, examples.SHA256)  # different for every image


@dataclasses.dataclass(frozen=True)
class FeatureDrift:
    """How much a feature of the train split changed since an earlier run.

    Attributes:
        distance: the largest change of any value's fraction (the L-infinity distance that TFDV uses for drift); for a
            numeric feature, the change of the median divided by the earlier standard deviation.
        value: the value that changed most; None for a numeric feature.
        before: its earlier fraction; for a numeric feature, the median.
        now: its fraction or median now.
    """

    feature: str
    distance: float
    value: str | None
    before: float
    now: float


@dataclasses.dataclass(frozen=True)
class Drift:
    """The train split compared with that of the last run with other images.

    Attributes:
        before: how many images that run trained on.
        now: how many this run has.
        features: the features that changed, categorical before numeric ones, each by the size of the change.
    """

    run: str
    before: int
    now: int
    features: list[FeatureDrift]


def drift(run: str, before: str, now: str) -> Drift:
    """Compares the statistics at the URI `before`, which the earlier `run` left, with those at `now`."""
    then, today = _read(before), _read(now)
    known = {_name(feature): feature for feature in then.features}
    pairs = [(known[_name(feature)], feature) for feature in today.features if _name(feature) in known]
    found = [change for pair in pairs if (change := _compare(*pair)) is not None and change.distance > 0]
    found.sort(key=lambda change: (change.value is None, -change.distance, change.feature))
    return Drift(run, int(then.num_examples), int(today.num_examples), found)


def _read(artifact: str) -> statistics_pb2.DatasetFeatureStatistics:
    content = Path(split_dir(artifact, "train"), STATISTICS_FILE).read_bytes()
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets[0]


def _name(feature: statistics_pb2.FeatureNameStatistics) -> str:
    return feature.name or ".".join(feature.path.step)


def _compare(
    before: statistics_pb2.FeatureNameStatistics, now: statistics_pb2.FeatureNameStatistics
) -> FeatureDrift | None:
    name = slices.name_of(_name(now))
    if before.HasField("num_stats") and now.HasField("num_stats"):
        then, today = before.num_stats, now.num_stats
        distance = abs(today.median - then.median) / (then.std_dev or 1.0)
        return FeatureDrift(name, distance, None, then.median, today.median)
    if name in _UNIQUE or not (before.HasField("string_stats") and now.HasField("string_stats")):
        return None
    old, new = _fractions(before), _fractions(now)
    values = sorted(old.keys() | new.keys())
    changes = [FeatureDrift(name, abs(new[value] - old[value]), value, old[value], new[value]) for value in values]
    return max(changes, key=lambda change: change.distance, default=None)


def _fractions(feature: statistics_pb2.FeatureNameStatistics) -> Mapping[str, float]:
    """The values' fractions; TFDV lists the thousand most frequent."""
    buckets = feature.string_stats.rank_histogram.buckets
    total = sum(bucket.sample_count for bucket in buckets) or 1
    return collections.defaultdict(float, {bucket.label: bucket.sample_count / total for bucket in buckets})
