"""FeatureExtractor: runs the frozen part of the network once per image, so that training never runs it again.

What an earlier run computed of an image is taken from there: the cost of a run follows the images that are new.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.utils.shared import Shared
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.earlier_features import EXAMPLES_ID, PARAMETERS
from components.features.feature_extraction import COMPUTED, REUSED, UNVARIED, Earlier, ExtractFeatures, Variants
from components.features.feature_session import Prefix, choose_session
from core import progress, tfrecords
from core.artifacts import backbone as backbone_artifact
from trainer.training.inputs import FORMAT_FILE

_PROBE_IMAGES = 16
_TRAIN = "train"  # the one split whose images are varied


class FeatureExtractorSpec(ComponentSpec):
    """Inputs, outputs and parameters; see `FeatureExtractor`."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        "cut": ExecutionParameter(type=str),
        "outputs": ExecutionParameter(type=str),
        "batch_size": ExecutionParameter(type=int),
        "bfloat16": ExecutionParameter(type=str),
        "augmentation": ExecutionParameter(type=str),
        "splits": ExecutionParameter(type=str),
        "parameters": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "backbone": ChannelParameter(type=standard_artifacts.Model),
        "earlier": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {"features": ChannelParameter(type=standard_artifacts.Examples)}  # noqa: RUF012


class Executor(base_beam_executor.BaseBeamExecutor):
    """Chooses how to compute, then streams every split once through the network: read, batch, compute, write."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the artifact.

        Raises:
            InputError: `bfloat16` is `on` and cannot be had (`choose_session`).
            ValueError: there are not as many features as images, a fault of ours.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        features = artifact_utils.get_single_instance(output_dict["features"])
        splits: list[str] = json.loads(exec_properties["splits"])
        variants = Variants.from_json(exec_properties["augmentation"])
        views = {split: variants.views if split == _TRAIN else 0 for split in splits}
        patterns = {split: f"{artifact_utils.get_split_uri([examples], split)}/*" for split in splits}
        prefix = Prefix(
            transform_directory=artifact_utils.get_single_uri(input_dict["transform_graph"]),
            backbone_directory=path_utils.serving_model_dir(artifact_utils.get_single_uri(input_dict["backbone"])),
            cut=exec_properties["cut"],
            outputs=tuple(json.loads(exec_properties["outputs"])),
        )
        sample = list(tfrecords.read(*patterns.values(), most=_PROBE_IMAGES))
        choice = choose_session(prefix, exec_properties["bfloat16"], sample, variants.augmentation, variants.seed)
        logging.getLogger(__name__).info("bfloat16: %s, %s", choice.bfloat16, choice.reason)
        plain = {
            "cut": prefix.cut,
            "outputs": list(prefix.outputs),
            "image_size": choice.session.image_size,
            "dtype": prefix.dtype.name,
            "bfloat16": choice.bfloat16,
            "backbone_sha256": backbone_artifact.RECORD.read(prefix.backbone_directory).sha256,
            "code": exec_properties["code"],
        }
        ways = {split: {**plain, "variants": variants.to_json() if views[split] else None} for split in splits}
        earlier = _earlier(input_dict.get("earlier", []), ways)
        shared, total = Shared(), _total(examples, splits)
        batch_size = exec_properties["batch_size"]
        extract = {
            split: ExtractFeatures(
                prefix, choice.bfloat16, variants, batch_size, shared, total, views[split], earlier[split]
            )
            for split in splits
        }
        # So that a runner in this process uses the session that was tried.
        worker = extract[splits[0]].acquire(lambda: choice.session)
        features.split_names = artifact_utils.encode_split_names(splits)
        examples_utils.set_payload_format(features, example_gen_pb2.FORMAT_TF_EXAMPLE)
        numbers = f"{features.uri}/.numbers"
        with self._make_beam_pipeline() as pipeline:
            for split, pattern in patterns.items():
                extracted = (
                    pipeline
                    | f"Read[{split}]" >> beam.io.ReadFromTFRecord(pattern)
                    | f"Batch[{split}]" >> beam.BatchElements(min_batch_size=batch_size, max_batch_size=batch_size)
                    | f"Extract[{split}]" >> beam.ParDo(extract[split])
                )
                uri = artifact_utils.get_split_uri([features], split)
                _ = extracted | f"Write[{split}]" >> beam.io.WriteToTFRecord(f"{uri}/features")
                _ = (
                    extracted
                    | f"Count[{split}]" >> beam.combiners.Count.Globally()
                    | f"WriteCount[{split}]" >> beam.io.WriteToText(f"{numbers}/{split}")
                )
        worker.session.close()
        _check_total(numbers, total)
        counts = {name: _count(pipeline, name) for name in (COMPUTED, REUSED)}
        for name, number in counts.items():
            features.set_int_custom_property(name, number)
        if counts[REUSED]:
            done = sum(counts.values())
            note = f"{'bfloat16' if choice.bfloat16 else 'float32'}, {counts[REUSED]:,} known from earlier runs"
            progress.report(done, done, "images", note)
        features.set_int_custom_property(EXAMPLES_ID, examples.id)
        features.set_string_custom_property(PARAMETERS, exec_properties["parameters"])
        description = {
            **plain,
            "shape": choice.session.shape,
            "bfloat16_error": choice.error,
            "bfloat16_reason": choice.reason,
            "views": {split: number for split, number in views.items() if number},
            "ways": ways,
            **counts,
        }
        with fileio.open(f"{features.uri}/{FORMAT_FILE}", "w") as file:
            file.write(json.dumps(description, indent=1))


def _earlier(artifacts: Sequence[types.Artifact], ways: dict[str, dict[str, Any]]) -> dict[str, Earlier]:
    """For each split, the splits of earlier artifacts whose features were computed in the same way.

    Artifacts whose files are gone are passed over. Splits that want the same share an index.
    """
    found: dict[str, list[str]] = {json.dumps(way): [] for way in ways.values()}
    for artifact in artifacts:
        path = f"{artifact.uri}/{FORMAT_FILE}"
        if not fileio.exists(path):
            continue
        with fileio.open(path) as file:
            theirs = json.loads(file.read())["ways"]
        for split, way in theirs.items():
            if json.dumps(way) in found:
                found[json.dumps(way)] += tfrecords.find(f"{artifact_utils.get_split_uri([artifact], split)}/*")
    indexes = {way: Earlier(files) for way, files in found.items()}
    return {split: indexes[json.dumps(way)] for split, way in ways.items()}


def _check_total(folder: str, total: int | None) -> None:
    """Nothing may get lost between the stages unseen; Beam's own counters may count what was tried twice."""
    written = 0
    for path in fileio.glob(f"{folder}/*-of-*"):
        with fileio.open(path) as file:
            written += sum(map(int, file.read().split()))
    fileio.rmtree(folder)
    if total is not None and written != total:
        raise ValueError(f"{total} images were to be read; features of {written} were written")


def _count(pipeline: beam.Pipeline, name: str) -> int:
    """A counter's sum over all steps and workers."""
    counters = pipeline.result.metrics().query(MetricsFilter().with_name(name))["counters"]
    return sum(counter.result for counter in counters)


def _total(examples: types.Artifact, splits: list[str]) -> int | None:
    """How many images there are, if ImageExampleGen counted them."""
    names = [f"examples_{split}" for split in splits]
    if not all(examples.has_custom_property(name) for name in names):
        return None
    return sum(examples.get_int_custom_property(name) for name in names)


class FeatureExtractor(base_beam_component.BaseBeamComponent):
    """Bottleneck features of every image, at the place where the network's trainable part begins.

    Inputs:
        examples: raw images.
        transform_graph: how they are preprocessed.
        backbone: a Model that holds what `trainer.network.backbone.import_weights` writes.
        earlier: features of earlier runs, which may hold some of the same images; see `EarlierFeaturesStrategy`.

    Outputs:
        features: Examples with `features` (little-endian arrays: one, or one for each view), `label_xf` and
            `image/sha256`; shape and dtype of the arrays are in `features.json`.
    """

    SPEC_CLASS = FeatureExtractorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        backbone: types.BaseChannel,
        cut: str,
        outputs: Sequence[str],
        batch_size: int,
        bfloat16: str,
        code: str,
        earlier: types.BaseChannel | None = None,
        variants: Variants = UNVARIED,
        parameters: str = "",
        splits: Sequence[str] = (_TRAIN, "eval"),
    ) -> None:
        """Wires the component.

        Args:
            examples: channel of the raw images.
            transform_graph: channel of Transform's graph.
            backbone: channel of the pre-trained network.
            cut: `pooled` or a block; see `core.rules.features_cut`.
            outputs: the blocks that `pooled` holds the averages of, in the network's order.
            batch_size: images that are computed at a time; bounds the memory.
            bfloat16: `auto`, `on` or `off`; see `feature_session.choose_session`.
            code: a hash of the source that decides what is written: a new one invalidates TFX's cache.
            earlier: channel of earlier features.
            variants: of the training images.
            parameters: for `EarlierFeaturesStrategy`: stands for all that is asked of this component but its inputs.
            splits: those that are trained or evaluated on; a test split is read by the Evaluator as raw images.
        """
        spec = FeatureExtractorSpec(
            examples=examples,
            transform_graph=transform_graph,
            backbone=backbone,
            earlier=earlier,
            features=types.Channel(type=standard_artifacts.Examples),
            cut=cut,
            outputs=json.dumps(list(outputs)),
            batch_size=batch_size,
            bfloat16=bfloat16,
            augmentation=variants.to_json(),
            parameters=parameters,
            splits=json.dumps(list(splits)),
            code=code,
        )
        super().__init__(spec=spec)
