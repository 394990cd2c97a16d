"""How the images to train on differ from those of an earlier run, by the statistics that both runs left."""

from __future__ import annotations

from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from core.examples import PATH, SHA256
from pipeline.report.facts import Drift, Shift

_STATISTICS = "Split-train/FeatureStats.pb"
_IDENTITIES = (PATH, SHA256)  # other in every image


def drift(run: str, before: Path, now: Path) -> Drift:
    """Compares the statistics that StatisticsGen left of two train splits.

    Args:
        run: ML Metadata's name of the earlier run.
        before: its statistics artifact.
        now: this run's.

    Raises:
        OSError: one of them has no statistics.
    """
    then, today = _read(before), _read(now)
    known = {_name(feature): feature for feature in then.features}
    pairs = [(known[_name(feature)], feature) for feature in today.features if _name(feature) in known]
    shifts = [shift for pair in pairs if (shift := _shift(*pair)) is not None and shift.distance > 0]
    shifts.sort(key=lambda shift: (shift.value is None, -shift.distance, shift.feature))
    return Drift(run, int(then.num_examples), int(today.num_examples), shifts)


def _read(artifact: Path) -> statistics_pb2.DatasetFeatureStatistics:
    content = (artifact / _STATISTICS).read_bytes()
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets[0]


def _name(feature: statistics_pb2.FeatureNameStatistics) -> str:
    return feature.name or ".".join(feature.path.step)


def _shift(before: statistics_pb2.FeatureNameStatistics, now: statistics_pb2.FeatureNameStatistics) -> Shift | None:
    name = _name(now)
    shown = name.removeprefix("slice/")
    if before.HasField("num_stats") and now.HasField("num_stats"):
        then, today = before.num_stats, now.num_stats
        distance = abs(today.median - then.median) / (then.std_dev or 1.0)
        return Shift(shown, distance, None, then.median, today.median)
    if name in _IDENTITIES or not (before.HasField("string_stats") and now.HasField("string_stats")):
        return None
    shares = _shares(before), _shares(now)
    values = sorted(shares[0].keys() | shares[1].keys())
    if not values:
        return None
    changes = {value: abs(shares[1].get(value, 0.0) - shares[0].get(value, 0.0)) for value in values}
    most = max(values, key=lambda value: changes[value])
    return Shift(shown, changes[most], most, shares[0].get(most, 0.0), shares[1].get(most, 0.0))


def _shares(feature: statistics_pb2.FeatureNameStatistics) -> dict[str, float]:
    """Of the values; TFDV lists the thousand most frequent."""
    buckets = feature.string_stats.rank_histogram.buckets
    total = sum(bucket.sample_count for bucket in buckets)
    return {bucket.label: bucket.sample_count / total for bucket in buckets}
