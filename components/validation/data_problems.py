"""TFDV's findings about a data set, in words for its owner: what was found, in which split, and what to do."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from core.artifacts.ingest_record import IngestCounts
from core.errors import some
from core.examples import IMAGE, LABEL

TRAIN = "train"

Paths = Callable[[str, str | None, Sequence[str]], list[str]]
"""Some images that have a value of a feature, or none where it is None, of some splits: (feature, value, splits)."""

_SHOWN = 10
_Type = anomalies_pb2.AnomalyInfo.Type
_MISSING_VALUES = {
    _Type.SCHEMA_MISSING_COLUMN: ("give every image a value", "remove the feature from {schema}"),
    _Type.FEATURE_TYPE_LOW_FRACTION_PRESENT: ("give every image a value", "lower min_fraction in {schema}"),
    _Type.FEATURE_TYPE_LOW_NUMBER_PRESENT: ("give every image a value", "lower min_count in {schema}"),
}
_ADVICE = _MISSING_VALUES | {
    _Type.SCHEMA_NEW_COLUMN: ("remove the feature", "add it to {schema}, or delete that file to have it inferred anew"),
    _Type.INVALID_FEATURE_SHAPE: ("give every image one value", "remove the feature's shape from {schema}"),
}
_DEFAULT_ADVICE = "correct the data", "change {schema} if this is meant"
"""What to do about the data, and about the schema where there is a reviewed one."""


@dataclasses.dataclass(frozen=True)
class SplitFindings:
    """TFDV's statistics of one split, and ingestion's counts of its images by class, if known."""

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


def problems(splits: Sequence[SplitFindings], schema_file: str, paths: Paths, if_empty: str) -> list[str]:
    """Everything that must stop a run, a sentence or two each; none if the data are fit to train on.

    `schema_file` is "" if the schema was inferred from these images, so that there is no file to change; `if_empty`
    says why a split may have no images.
    """
    filled = [split for split in splits if split.examples]
    labels = misfit(filled, schema_file)
    empty = " and ".join(split.name for split in splits if not split.examples)
    return [
        *([f"no image is in {empty}: {if_empty}"] if empty else []),
        *([labels] if labels else []),
        *_unknown_values(filled, schema_file, paths, but=LABEL if labels else ""),
        *_anomalies(filled, schema_file, anomalies_pb2.AnomalyInfo.ERROR, paths),
    ]


def misfit(splits: Sequence[SplitFindings], schema_file: str) -> str:
    """A problem, if most of the images' classes are not in the schema, which was then made for other data; else ""."""
    domain = _domains(splits).get(LABEL)
    found = sorted({label for split in splits for label in split.values(LABEL)})
    return classes_misfit(found, domain, f"{schema_file}{_origin(splits)}", schema_file) if domain is not None else ""


def classes_misfit(found: Sequence[str], known: Iterable[str], schema: str, schema_file: str) -> str:
    """The same by names of classes; `schema` is what the message calls it."""
    listed = dict.fromkeys(known)
    unknown = [label for label in found if label not in listed]
    if len(unknown) <= len(found) / 2:
        return ""
    return (
        f"the images do not fit the schema {schema}: {len(unknown)} of their {len(found)} classes are not in it: "
        f"{some(unknown)}. It has {some(list(listed))}. If these are other images than those that it is of, give them "
        "settings of their own, with another name (CONFIG=birds.yaml, as in docs/tutorial.md); if they take their "
        f"place, delete {schema_file} to have it inferred anew, or name another file in data.schema"
    )


def small_classes(
    splits: Sequence[SplitFindings], counts: IngestCounts, schema_file: str, least: int, answer: str
) -> tuple[list[str], list[str]]:
    """Problems and notes about the classes that have fewer than `least` images in train; `answer` is the setting.

    Whatever the schema says, no image may reach the Evaluator with a label that the model does not know.
    """
    if misfit(splits, schema_file):
        return [], []  # that says it all
    left_out, domain = answer == "leave_out", _domains(splits).get(LABEL, {})
    # A class that is unknown to the schema is a problem already, unless it is left out.
    known = dict.fromkeys([*domain, *(counts.classes if left_out or not domain else ())])
    in_train = {label: sum(s.values(LABEL).get(label, 0) for s in splits if s.name == TRAIN) for label in known}
    few = [label for label, number in in_train.items() if number < least]
    shown = some([_images_of(label, counts) for label in few])
    verb = "class has" if len(few) == 1 else "classes have"
    what = f"{len(few)} {verb} fewer images in train than data.min_class_images demands, {least}"
    if few and not left_out:
        ways = ["add images to train", *(["lower data.min_class_images"] if least > 1 else [])]
        if schema_file and any(label not in counts.classes for label in few):
            ways.append(f"remove those without images from the domain of {LABEL} in {schema_file}{_origin(splits)}")
        return [f"{what}: {shown}; {', '.join(ways)}, or set data.small_classes to leave_out to train without them"], []
    notes = [f"{what}, and are left out (data.small_classes): {shown}"] if few else []
    if len(known) - len(few) < 2:
        left = some([label for label in known if label not in few]) or "none"
        return ["; ".join([f"fewer than two classes are left to train on: {left}", *notes])], []
    return [], notes


def untested(splits: Sequence[SplitFindings]) -> Iterator[str]:
    """Notes about classes without test images."""
    trained = {label for split in splits if split.name == TRAIN for label in split.values(LABEL)}
    for split in (split for split in splits if split.name != TRAIN and split.examples):
        missing = sorted(trained - set(split.values(LABEL)))
        if missing:
            verb = "has" if len(missing) == 1 else "have"
            yield f"{len(missing)} of {len(trained)} classes {verb} no images in {split.name}: {some(missing)}"


def warnings(splits: Sequence[SplitFindings], schema_file: str, paths: Paths) -> list[str]:
    """TFDV's findings that need not stop a run."""
    return list(_anomalies(splits, schema_file, anomalies_pb2.AnomalyInfo.WARNING, paths))


def such_images(paths: Paths, feature: str, value: str | None, splits: Sequence[str]) -> str:
    """Some of the files behind a finding, to append to it; "" if there are none."""
    shown = paths(feature, value, splits)
    return f"; such images: {', '.join(shown)}" if shown else ""


def _unknown_values(splits: Sequence[SplitFindings], schema_file: str, paths: Paths, but: str) -> Iterator[str]:
    """Values, class names above all, that their feature's domain does not list; nothing of the feature `but`."""
    where = schema_file or "the schema inferred from what lists the classes"
    for feature, domain in ((feature, domain) for feature, domain in _domains(splits).items() if feature != but):
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
                f"{feature}: {value!r} ({', '.join(counts[value])}) is not in its domain in {where}{hint}; "
                f"add it there if it is meant, otherwise {otherwise}"
                f"{such_images(paths, feature, value, [s.name for s in splits if value in s.values(feature)])}"
            )
        if len(counts) > _SHOWN:
            yield f"{feature}: {len(counts) - _SHOWN} more values are not in its domain in {where}"


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
        ways = _ADVICE.get(kind, _DEFAULT_ADVICE)[: 2 if schema_file else 1]
        advice = ", or ".join(ways).format(schema=schema_file)
        files = such_images(paths, feature, None, names) if kind in _MISSING_VALUES else ""
        yield f"{feature} (in {', '.join(names)}): {text.rstrip('.')}; {advice}{files}"


def _images_of(label: str, counts: IngestCounts) -> str:
    """A class, and what became of its images."""
    numbers = {}
    if of := counts.classes.get(label):
        numbers = {f"in {split}": number for split, number in of.splits.items()}
        numbers |= {"rejected": of.rejected, "left out": of.left_out}
    shown = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    return f"{label!r} ({shown or 'no images at all'})"


def _domains(splits: Sequence[SplitFindings]) -> dict[str, dict[str, None]]:
    """The values each feature may have, in the schema's order; TFDV leaves the schema with what it found."""
    schema = _schema(splits)
    shared = {domain.name: domain.value for domain in schema.string_domain}
    return {
        feature.name: dict.fromkeys(shared.get(feature.domain, feature.string_domain.value))
        for feature in schema.feature
        if feature.HasField("domain") or feature.HasField("string_domain")
    }


def _origin(splits: Sequence[SplitFindings]) -> str:
    """What the schema was inferred from, and when, if it says so."""
    return "".join(f" ({comment})" for comment in _schema(splits).annotation.comment)


def _schema(splits: Sequence[SplitFindings]) -> schema_pb2.Schema:
    return next((s.anomalies.baseline for s in splits if s.anomalies.HasField("baseline")), schema_pb2.Schema())


def _statistics(split: SplitFindings, feature: str) -> Iterator[statistics_pb2.FeatureNameStatistics]:
    for data in split.statistics.datasets:
        yield from (s for s in data.features if ".".join(s.path.step) == feature)
