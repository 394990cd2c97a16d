"""TFDV's findings about a data set, in words for its owner: what was found, in which split, what to do."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from core.examples import IMAGE, LABEL

TRAIN = "train"

Paths = Callable[[str, str | None, Sequence[str]], list[str]]
"""Some images that have a value of a feature, or none where it is None, of some splits: (feature, value, splits)."""

_SHOWN = 20
_Type = anomalies_pb2.AnomalyInfo.Type
_MISSING_VALUES = {
    _Type.SCHEMA_MISSING_COLUMN: "give every image a value, or remove the feature from {schema}",
    _Type.FEATURE_TYPE_LOW_FRACTION_PRESENT: "give every image a value, or lower min_fraction in {schema}",
    _Type.FEATURE_TYPE_LOW_NUMBER_PRESENT: "give every image a value, or lower min_count in {schema}",
}
_ADVICE = _MISSING_VALUES | {
    _Type.SCHEMA_NEW_COLUMN: "add the feature to {schema}, or delete that file to have it inferred anew",
    _Type.INVALID_FEATURE_SHAPE: "give every image one value, or remove the feature's shape from {schema}",
}
_DEFAULT_ADVICE = "correct the data, or change {schema} if this is meant"


@dataclasses.dataclass(frozen=True)
class SplitFindings:
    """What TFDV computed of one split, and how many images of each class ingestion counted in it, if that is known."""

    name: str
    anomalies: anomalies_pb2.Anomalies
    statistics: statistics_pb2.DatasetFeatureStatisticsList
    labels: Mapping[str, int] | None = None

    @property
    def examples(self) -> int:
        """Number of images."""
        return sum(int(data.num_examples) for data in self.statistics.datasets)

    def values(self, feature: str) -> dict[str, int]:
        """Value -> images: the most frequent, as TFDV lists them; of the label all, if `labels` are known."""
        if feature == LABEL and self.labels is not None:
            return dict(self.labels)
        return {
            bucket.label: int(bucket.sample_count)
            for statistics in _statistics(self, feature)
            for bucket in statistics.string_stats.rank_histogram.buckets
        }

    @property
    def lists_all_classes(self) -> bool:
        """Whether `values` has every label."""
        unique = max((int(s.string_stats.unique) for s in _statistics(self, LABEL)), default=0)
        return len(self.values(LABEL)) >= unique


def problems(splits: Sequence[SplitFindings], schema_file: str, paths: Paths) -> list[str]:
    """All that must stop a run, a sentence or two each; none if the data are fit to train on."""
    empty = "has no images: add images, or give it a larger share in data.splits"
    filled = [split for split in splits if split.examples]
    return [
        *(f"the split {split.name} {empty}" for split in splits if not split.examples),
        *_unknown_values(filled, schema_file, paths),
        *_anomalies(filled, schema_file, anomalies_pb2.AnomalyInfo.ERROR, paths),
        *_classes_without_images(filled, schema_file),
    ]


def warnings(splits: Sequence[SplitFindings], schema_file: str, paths: Paths) -> list[str]:
    """What TFDV found that need not stop a run."""
    return list(_anomalies(splits, schema_file, anomalies_pb2.AnomalyInfo.WARNING, paths))


def such_images(paths: Paths, feature: str, value: str | None, splits: Sequence[str]) -> str:
    """Some of the files behind a finding, to be added to it; "" if there are none."""
    shown = paths(feature, value, splits)
    return f"; such images: {', '.join(shown)}" if shown else ""


def _unknown_values(splits: Sequence[SplitFindings], schema_file: str, paths: Paths) -> Iterator[str]:
    """Values, class names above all, that their feature's domain does not list."""
    for feature, domain in _domains(splits).items():
        counts: dict[str, list[str]] = {}
        for split in splits:
            for value, count in split.values(feature).items():
                if value not in domain:
                    counts.setdefault(value, []).append(f"{count} in {split.name}")
        for value in sorted(counts)[:_SHOWN]:
            near = difflib.get_close_matches(value, domain, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            otherwise = f"rename or remove the folder {value!r}" if feature == LABEL else "correct it in the metadata"
            yield (
                f"{feature}: {value!r} ({', '.join(counts[value])}) is not in its domain in {schema_file}{hint}; "
                f"add it there if it is meant, otherwise {otherwise}"
                f"{such_images(paths, feature, value, [s.name for s in splits if value in s.values(feature)])}"
            )
        if len(counts) > _SHOWN:
            yield f"{feature}: {len(counts) - _SHOWN} more values are not in its domain in {schema_file}"


def _anomalies(splits: Sequence[SplitFindings], schema_file: str, severity: int, paths: Paths) -> Iterator[str]:
    """TFDV's anomalies but for those `_unknown_values` words better; one in several splits once."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for split in splits:
        unknown = {f for f, domain in _domains([split]).items() if set(split.values(f)) - domain.keys()}
        about: list[tuple[str, anomalies_pb2.AnomalyInfo | anomalies_pb2.DatasetAnomalyInfo]] = [
            (".".join(info.path.step) or key, info) for key, info in split.anomalies.anomaly_info.items()
        ]
        if split.anomalies.HasField("dataset_anomaly_info"):
            about.append(("the data set", split.anomalies.dataset_anomaly_info))
        for feature, info in about:
            for reason in getattr(info, "reason", None) or [info]:
                kind = getattr(reason, "type", _Type.UNKNOWN_TYPE)
                known = kind == _Type.ENUM_TYPE_UNEXPECTED_STRING_VALUES and feature in unknown
                meant = kind == _Type.SCHEMA_MISSING_COLUMN and feature == IMAGE  # StatisticsGen leaves the bytes out
                if info.severity == severity and not known and not meant:
                    short, long = reason.short_description, reason.description.strip()
                    text = long if short in long else f"{short}: {long}"
                    found.setdefault((feature, text, kind), []).append(split.name)
    for (feature, text, kind), names in found.items():
        advice = _ADVICE.get(kind, _DEFAULT_ADVICE).format(schema=schema_file)
        files = such_images(paths, feature, None, names) if kind in _MISSING_VALUES else ""
        yield f"{feature} (in {', '.join(names)}): {text.rstrip('.')}; {advice}{files}"


def _classes_without_images(splits: Sequence[SplitFindings], schema_file: str) -> Iterator[str]:
    domain = _domains(splits).get(LABEL, {})
    missing = [name for split in splits if split.name == TRAIN for name in domain if name not in split.values(LABEL)]
    for name in missing[:_SHOWN]:
        elsewhere = [f"{s.values(LABEL)[name]} in {s.name}" for s in splits if name in s.values(LABEL)]
        others = f" (there are {', '.join(elsewhere)})" if elsewhere else ""
        yield (
            f"the class {name!r} has no images in {TRAIN}{others}: add images of it, or remove it from the domain of "
            f"{LABEL} in {schema_file}" + (" and its folder" if elsewhere else "")
        )
    if len(missing) > _SHOWN:
        yield f"{len(missing) - _SHOWN} more classes in {schema_file} have no images in {TRAIN}"


def _domains(splits: Sequence[SplitFindings]) -> dict[str, dict[str, None]]:
    """The values each feature may have, in the schema's order; TFDV leaves the schema with what it found."""
    schema = next((s.anomalies.baseline for s in splits if s.anomalies.HasField("baseline")), schema_pb2.Schema())
    shared = {domain.name: domain.value for domain in schema.string_domain}
    return {
        feature.name: dict.fromkeys(shared.get(feature.domain, feature.string_domain.value))
        for feature in schema.feature
        if feature.HasField("domain") or feature.HasField("string_domain")
    }


def _statistics(split: SplitFindings, feature: str) -> Iterator[statistics_pb2.FeatureNameStatistics]:
    for data in split.statistics.datasets:
        yield from (s for s in data.features if ".".join(s.path.step) == feature)
