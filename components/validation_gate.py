"""ValidationGate: stops the run if the data are not fit to train on, which ExampleValidator only records."""

import functools
import itertools
from collections.abc import Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics

from components.validation import data_drift, data_problems, ingest_problems, shortcuts
from core import examples as features
from core import tfrecords
from core.artifacts import ingest_record, validation
from core.artifacts.nodes import ANOMALIES_FILE, STATISTICS_FILE
from core.errors import InputError
from core.settings import converter
from core.settings.abstain import AbstainConfig
from core.settings.data import DataBounds
from core.slices import feature_of

_SHOWN_PATHS = 5


@component
def ValidationGate(  # noqa: N802 - a component is a class to its users
    anomalies: InputArtifact[ExampleAnomalies],
    statistics: InputArtifact[ExampleStatistics],
    examples: InputArtifact[Examples],
    rejects: InputArtifact[File],
    verdict: OutputArtifact[File],
    schema_file: Parameter[str],
    max_rejected: Parameter[float],
    min_class_images: Parameter[int],
    small_classes: Parameter[str],
    bounds: Parameter[str],
    code: Parameter[str],
    group_by: Parameter[str] = "",
    abstain: Parameter[str] = "",
    baseline: InputArtifact[ExampleStatistics] = None,
) -> None:
    """Passes data that can be trained on, with notes about them in `verdict`, as in `core.artifacts.validation`.

    `rejects` is as in `core.artifacts.ingest_record`; `baseline` has the statistics of the last blessed model's data;
    `schema_file` is the reviewed schema's path, for messages, or "" if it was inferred from these images; `bounds` is
    the JSON of a `DataBounds`; each value of the column `group_by` is in one split only, so splits naturally differ in
    it; `abstain` is the JSON of an `AbstainConfig`, if any; the other parameters are the settings of those names.

    Raises:
        InputError: all problems, one per line.
        ValueError: StatisticsGen did not see all images: an internal error.
    """
    del code
    limits = converter.from_json(bounds, DataBounds)
    counts = ingest_record.COUNTS.read(rejects.uri)
    duplicates = list(ingest_record.DUPLICATES.read(rejects.uri))
    files = ingest_record.REJECTS.read(rejects.uri)
    problems = ingest_problems.rejected(counts, files, max_rejected, ingest_record.REJECTS.path(rejects.uri))
    ignored, left_out = ingest_record.IGNORED, ingest_record.LEFT_OUT
    problems += ingest_problems.no_pictures(counts, ignored.read(rejects.uri), ignored.path(rejects.uri))
    notes = []
    found_shortcuts: list[validation.Shortcut] = []
    for found, noted in (
        ingest_problems.contradictions(
            counts, left_out.read(rejects.uri), limits.contradicting, left_out.path(rejects.uri)
        ),
        ingest_problems.leaks(duplicates, counts, limits.leaked),
    ):
        problems += found
        notes += noted
    notes += [*ingest_problems.notes(duplicates, counts), *counts.remarks]
    if counts.read or counts.left_out:
        splits = _findings(statistics, anomalies, counts)
        for split in splits:  # nothing may get lost between the stages unseen
            if split.examples != (written := counts.splits[split.name]):
                raise ValueError(f"{written} images were written to {split.name}; StatisticsGen saw {split.examples}")
        paths = functools.partial(_paths, examples)
        if_empty = ingest_problems.why_empty(duplicates, counts, group_by)
        problems += data_problems.problems(splits, schema_file, paths, if_empty)
        if abstain:
            problems += ingest_problems.too_few_to_show(counts, converter.from_json(abstain, AbstainConfig))
        few, noted = data_problems.small_classes(splits, counts, schema_file, min_class_images, small_classes)
        problems += few
        notes += [*noted, *data_problems.untested(splits), *data_problems.warnings(splits, schema_file, paths)]
        excluded = [feature_of(group_by)] if group_by else []
        found_shortcuts = shortcuts.find_shortcuts(_columns(examples, excluded))
        shown, noted = shortcuts.judge(found_shortcuts, limits.shortcut)
        problems += shown
        notes += noted
        problems += data_drift.balance(counts.classes, limits.min_class_share)
        problems += data_drift.skew(splits, limits.split_skew, excluded, paths)
        if baseline is None:
            notes.append("the data were not compared with earlier ones: no blessed model was trained on other data")
        else:
            before = _findings(baseline)
            changed, noted = data_drift.class_changes(splits, before, limits.class_changes, paths)
            problems += changed
            problems += data_drift.drift(splits, before, limits, excluded, paths)
            notes += noted
    if problems:
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise InputError(f"the data are not fit to train on:{lines}")
    fileio.makedirs(verdict.uri)
    validation.DATA_VERDICT.write(verdict.uri, validation.DataVerdict(notes, found_shortcuts))


def _findings(
    statistics: Artifact, anomalies: Artifact | None = None, counts: ingest_record.IngestCounts | None = None
) -> list[data_problems.SplitFindings]:
    """TFDV's findings for every split; an earlier run's statistics come without `counts`."""
    return [
        data_problems.SplitFindings(
            name,
            anomalies_pb2.Anomalies.FromString(_read(anomalies, name, ANOMALIES_FILE) if anomalies else b""),
            statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(statistics, name, STATISTICS_FILE)),
            {label: of.splits[name] for label, of in counts.classes.items() if of.splits[name]} if counts else None,
        )
        for name in artifact_utils.decode_split_names(statistics.split_names)
    ]


def _columns(examples: Artifact, excluded: Sequence[str]) -> shortcuts.Columns:
    """Columns of the first images of train, which are in random order."""
    train = _patterns(examples, [data_problems.TRAIN])
    return shortcuts.read_columns(tfrecords.read(*train, most=shortcuts.IMAGES), excluded)


def _paths(examples: Artifact, feature: str, value: str | None, splits: Sequence[str]) -> list[str]:
    """Some images that have a given value of a feature, or none; reads examples until there are enough."""
    patterns = _patterns(examples, splits)
    if value is None:
        found = (record for record in tfrecords.read(*patterns) if tfrecords.lacks(record, feature))
    else:
        wanted = value.encode()
        found = (record for record in tfrecords.read(*patterns) if tfrecords.values(record).get(feature) == wanted)
    return [tfrecords.values(record)[features.PATH].decode() for record in itertools.islice(found, _SHOWN_PATHS)]


def _patterns(examples: Artifact, splits: Sequence[str]) -> list[str]:
    """File patterns of the splits that exist."""
    present = artifact_utils.decode_split_names(examples.split_names)
    return [f"{artifact_utils.get_split_uri([examples], split)}/*" for split in splits if split in present]


def _read(artifact: Artifact, split: str, name: str) -> bytes:
    with fileio.open(f"{artifact_utils.get_split_uri([artifact], split)}/{name}", "rb") as file:
        return file.read()
