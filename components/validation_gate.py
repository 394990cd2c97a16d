"""ValidationGate: stops the run where the data are not fit to train on; ExampleValidator only writes that down.

What comes after it names it as an upstream node. Its output says what is worth knowing of data that passed.
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics

from components.ingestion import ingest_problems, ingest_record
from components.validation import data_drift, data_problems
from core import tfrecords
from core.errors import InputError

NOTES_FILE = "data_gate.json"
"""{"notes": [...]}: sentences."""

# As in tfx/components/example_validator/executor.py and statistics_gen/stats_artifact_utils.py, which import TFDV.
_ANOMALIES_FILE, _STATISTICS_FILE = "SchemaDiff.pb", "FeatureStats.pb"
_SHOWN_REJECTS = 10
_SHOWN_PATHS = 5


@component
def ValidationGate(  # noqa: N802 - a component is a class to its users
    anomalies: InputArtifact[ExampleAnomalies],
    statistics: InputArtifact[ExampleStatistics],
    examples: InputArtifact[Examples],
    rejects: InputArtifact[File],
    verdict: OutputArtifact[File],
    baseline: InputArtifact[ExampleStatistics] = None,
    schema_file: Parameter[str] = "the schema",
    max_rejected: Parameter[float] = 0.0,
    bounds: Parameter[str] = "{}",
    group_by: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Passes data that can be trained on, with notes about them.

    Args:
        anomalies: what ExampleValidator found.
        statistics: what it looked at.
        examples: the images, to name those behind a problem.
        rejects: what ingestion recorded.
        verdict: gets `NOTES_FILE`.
        baseline: the statistics of the last blessed model's data, if there are any.
        schema_file: the schema's path, for the message.
        max_rejected: the part of the files that may be unusable.
        bounds: JSON: `data.bounds` of the settings.
        group_by: a column of the metadata whose values are in one split each, and so differ between splits.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        InputError: all problems, one a line: too many rejects, one picture under two labels, anomalies of severity
            ERROR in any split, a split without images, a class of the schema without images to train on, and whatever
            `bounds` do not allow.
        ValueError: StatisticsGen did not see all images, a fault of ours.
    """
    del code
    limits = json.loads(bounds)
    counts = ingest_record.read_counts(rejects.uri)
    duplicates = ingest_record.read_duplicates(rejects.uri)
    first = ingest_record.read_rejects(rejects.uri, _SHOWN_REJECTS)
    listed = f"{rejects.uri}/{ingest_record.REJECTS_FILE}"
    problems = ingest_problems.rejected(counts, first, max_rejected, listed)
    problems += ingest_problems.contradictions(duplicates)
    leaks, notes = ingest_problems.leaks(duplicates, counts, limits.get("leaked", 0.0))
    problems += leaks
    notes += ingest_problems.notes(duplicates, counts)
    if counts["read"]:
        splits = _findings(statistics, anomalies, counts["classes"])
        _check_counts(splits, counts)
        paths = functools.partial(_paths, examples)
        problems += data_problems.problems(splits, schema_file, paths)
        notes += data_problems.warnings(splits, schema_file, paths)
        apart = [f"slice/{group_by}"] if group_by else []
        least, share = limits.get("min_class_images", 1), limits.get("min_class_share")
        problems += data_drift.balance(counts["classes"], least, share, paths)
        problems += data_drift.skew(splits, limits.get("split_skew"), apart, paths)
        if baseline is None:
            notes.append("the data were compared with none before: no blessed model was trained on others")
        else:
            before = _findings(baseline)
            changed, told = data_drift.class_changes(splits, before, limits.get("class_changes"), paths)
            problems += changed
            problems += data_drift.drift(splits, before, limits, apart, paths)
            notes += told
    if problems:
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise InputError(f"the data are not fit to train on:{lines}")
    fileio.makedirs(verdict.uri)
    with fileio.open(f"{verdict.uri}/{NOTES_FILE}", "w") as file:
        file.write(json.dumps({"notes": notes}, indent=1, ensure_ascii=False))


def _findings(
    statistics: Artifact, anomalies: Artifact | None = None, classes: Mapping[str, Mapping[str, int]] | None = None
) -> list[data_problems.SplitFindings]:
    """Of every split; `classes` are `ingest_record.COUNTS_FILE`'s, which an earlier run's statistics come without."""
    return [
        data_problems.SplitFindings(
            name,
            anomalies_pb2.Anomalies.FromString(_read(anomalies, name, _ANOMALIES_FILE) if anomalies else b""),
            statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(statistics, name, _STATISTICS_FILE)),
            None if classes is None else {label: n[name] for label, n in classes.items() if n[name]},
        )
        for name in artifact_utils.decode_split_names((anomalies or statistics).split_names)
    ]


def _paths(examples: Artifact, feature: str, value: str | None, splits: Sequence[str]) -> list[str]:
    """Some images that have a value, or none of the feature; reads the examples until there are enough."""
    there = artifact_utils.decode_split_names(examples.split_names)
    patterns = [f"{artifact_utils.get_split_uri([examples], split)}/*" for split in splits if split in there]
    if value is None:
        found = (record for record in tfrecords.read(*patterns) if tfrecords.lacks(record, feature))
    else:
        wanted = value.encode()
        found = (record for record in tfrecords.read(*patterns) if tfrecords.values(record).get(feature) == wanted)
    return [tfrecords.values(record)["image/path"].decode() for record in itertools.islice(found, _SHOWN_PATHS)]


def _check_counts(splits: list[data_problems.SplitFindings], counts: dict) -> None:
    """Nothing may get lost between the stages unseen."""
    for split in splits:
        if split.examples != counts[split.name]:
            raise ValueError(
                f"{counts[split.name]} images were written to {split.name}; StatisticsGen saw {split.examples}"
            )


def _read(artifact: Artifact, split: str, name: str) -> bytes:
    with fileio.open(f"{artifact_utils.get_split_uri([artifact], split)}/{name}", "rb") as file:
        return file.read()
