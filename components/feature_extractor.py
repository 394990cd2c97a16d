"""FeatureExtractor: runs the frozen part of the network once per image, so that training never runs it again.

Features that an earlier run computed are reused, so that the cost of a run depends only on its new images.
"""

import dataclasses
import logging
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.util import ReshufflePerKey
from apache_beam.utils.shared import Shared
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils
from tfx.types.standard_artifacts import Examples, Model, TransformGraph

from components.features import probe
from components.features.feature_extraction import ExtractFeatures, Shard
from components.features.feature_index import SharedFeatureIndex
from components.features.feature_session import Prefix, choose_sessions
from core import progress, tfrecords
from core.artifacts import exported_model
from core.artifacts.backbone import RECORD
from core.artifacts.executions import EXECUTION, execution_key
from core.artifacts.features import COMPUTED, FEATURES_FILE, REUSED, UNVARIED, FeatureConfig, Features, SplitFeatures
from core.artifacts.ingest_record import count_property
from core.errors import InputError
from core.inception_v3 import POOLED
from core.settings import converter

_SAMPLE = 16  # images that bfloat16 is tried on
_SPLITS = _TRAIN, _EVAL, _TEST = "train", "eval", "test"


@component(use_beam=True)
def FeatureExtractor(  # noqa: N802 - a component is a class to its users
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    backbone: InputArtifact[Model],
    features: OutputArtifact[Examples],
    config: Parameter[str],
    earlier: InputArtifact[list[Examples]] = None,
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Bottleneck features of every image, at the place where the network's trainable part begins.

    Those of the test split, which models are judged on, are float32, as the exported model computes them.

    Args:
        features: Examples as in `core.artifacts.features`.
        config: JSON of a `FeatureConfig`.
        earlier: features of earlier runs, which may hold some of the same images; see `EarlierFeaturesStrategy`.
        code: hash of the source. If it changes, this runs again, but recomputes features only if the built-in images of
            `components.features.probe` come out differently.

    Raises:
        InputError: `bfloat16` is `on`, but cannot be used (`choose_sessions`).
        ValueError: there are not as many features as images, an internal error.
    """
    wanted = converter.from_json(config, FeatureConfig)
    directory = exported_model.serving_dir(backbone.uri)
    prefix = Prefix(transform_graph.uri, directory, wanted.cut, wanted.outputs, wanted.variants)
    patterns = {split: f"{artifact_utils.get_split_uri([examples], split)}/*" for split in _SPLITS}
    sample = list(tfrecords.read(patterns[_TRAIN], patterns[_EVAL], most=_SAMPLE))
    choice = choose_sessions(prefix, wanted.bfloat16, sample)
    logging.getLogger(__name__).info("bfloat16: %s, %s", choice.bfloat16, choice.reason)
    stored = "float32" if wanted.cut == POOLED else "float16"  # a pooled vector is small
    plain = SplitFeatures(UNVARIED, stored, choice.bfloat16, choice.probe)
    varied = SplitFeatures(wanted.variants, stored, choice.bfloat16, choice.probe_of_views)
    description = Features(
        cut=prefix.cut,
        outputs=prefix.outputs,
        shape=choice.sessions.exact.shape,
        image_size=choice.sessions.exact.image_size,
        weights_sha256=RECORD.read(directory).sha256,
        bfloat16_reason=choice.reason,
        bfloat16_error=choice.error,
        splits={
            _TRAIN: varied if wanted.variants.views else plain,
            _EVAL: plain,
            _TEST: SplitFeatures(UNVARIED, "float32", False, choice.probe),
        },
    )
    indexes = _index(earlier or [], description)
    shared, total = Shared(), _total(examples)
    extract = {
        name: ExtractFeatures(prefix, choice.bfloat16, wanted.batch_size, shared, total, split, indexes[split])
        for name, split in description.splits.items()
    }
    worker = extract[_TRAIN].acquire(lambda: choice.sessions)  # so that a runner in this process uses it
    features.split_names = artifact_utils.encode_split_names(list(patterns))
    examples_utils.set_payload_format(features, example_gen_pb2.FORMAT_TF_EXAMPLE)
    written = []
    try:
        with beam_pipeline as pipeline:
            for split, pattern in patterns.items():
                files = tfrecords.find(pattern)
                target = f"{artifact_utils.get_split_uri([features], split)}/features"
                shards = [(n, Shard(file, tfrecords.shard(target, n, len(files)))) for n, file in enumerate(files)]
                written.append(
                    pipeline
                    | f"Shards[{split}]" >> beam.Create(shards, reshuffle=False)
                    | f"Spread[{split}]" >> ReshufflePerKey()
                    | f"WithoutKey[{split}]" >> beam.Values()
                    | f"Extract[{split}]" >> beam.ParDo(extract[split])
                )
            _ = written | beam.Flatten() | beam.CombineGlobally(sum) | "Check" >> beam.Map(_check_total, total)
    finally:
        worker.sessions.close()
        tfrecords.clear_unfinished(features.uri)
    counts = {name: _count(pipeline, name) for name in (COMPUTED, REUSED)}
    for name, number in counts.items():
        features.set_int_custom_property(name, number)
    if counts[REUSED]:
        done = sum(counts.values())
        note = f"{'bfloat16' if choice.bfloat16 else 'float32'}, {counts[REUSED]:,} known from earlier runs"
        progress.report(done, done, "images", note)
    features.set_string_custom_property(EXECUTION, execution_key([config, code], [examples, transform_graph, backbone]))
    FEATURES_FILE.write(features.uri, description)


def _index(artifacts: Sequence[Artifact], wanted: Features) -> dict[SplitFeatures, SharedFeatureIndex]:
    """For each kind of split, the earlier features that would be the same today; unreadable ones are skipped."""
    files: dict[SplitFeatures, list[str]] = {split: [] for split in wanted.splits.values()}
    for artifact in artifacts:
        if not fileio.exists(FEATURES_FILE.path(artifact.uri)):
            continue
        try:
            stored = FEATURES_FILE.read(artifact.uri)
        except InputError as error:
            logging.getLogger(__name__).warning("features are not reused: %s", error)
            continue
        for name, split in stored.splits.items() if stored.computation == wanted.computation else ():
            for now, found in files.items():
                if dataclasses.replace(split, probe=now.probe) == now and probe.agree(now.probe, split.probe):
                    found += tfrecords.find(f"{artifact_utils.get_split_uri([artifact], name)}/*")
    return {split: SharedFeatureIndex(found) for split, found in files.items()}


def _check_total(written: int, total: int | None) -> None:
    """Checks that no image got lost between stages; Beam's own counters may count retries twice."""
    if total is not None and written != total:
        raise ValueError(f"{total} images were to be read; features of {written} were written")


def _count(pipeline: beam.Pipeline, name: str) -> int:
    """A counter's sum over all steps and workers."""
    counters = pipeline.result.metrics().query(MetricsFilter().with_name(name))["counters"]
    return sum(counter.result for counter in counters)


def _total(examples: Artifact) -> int | None:
    """How many images there are, if ImageExampleGen counted them."""
    names = [count_property(split) for split in _SPLITS]
    if not all(examples.has_custom_property(name) for name in names):
        return None
    return sum(examples.get_int_custom_property(name) for name in names)
