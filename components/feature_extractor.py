"""FeatureExtractor: runs the frozen part of the network once per image, so that training never runs it again."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.utils.shared import Shared
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from components.feature_session import FeatureSession, Prefix, choose_session, fold
from components.progress_counter import ProgressCounter
from trainer import records
from trainer.backbone import read_record
from trainer.inputs import FEATURES, FORMAT_FILE
from trainer.preprocessing import LABEL

_PROBE_IMAGES = 16


class FeatureExtractorSpec(ComponentSpec):
    """Inputs, outputs and parameters; see `FeatureExtractor`."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        "cut": ExecutionParameter(type=str),
        "output": ExecutionParameter(type=str),
        "batch_size": ExecutionParameter(type=int),
        "bfloat16": ExecutionParameter(type=str),
        "splits": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "backbone": ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS = {"features": ChannelParameter(type=standard_artifacts.Examples)}  # noqa: RUF012


@dataclasses.dataclass
class _Worker:
    """What all threads of a process share."""

    session: FeatureSession
    progress: ProgressCounter


class ExtractFeatures(beam.DoFn):
    """In: a batch of raw tf.Examples, serialised. Out: for each of them a tf.Example with its features."""

    def __init__(self, prefix: Prefix, bfloat16: bool, shared: Shared, total: int | None) -> None:
        self._prefix = prefix
        self._bfloat16 = bfloat16
        self._shared = shared
        self._total = total

    def setup(self) -> None:  # noqa: D102
        self._worker = self.acquire(lambda: FeatureSession(self._prefix, fold(self._prefix), self._bfloat16))

    def acquire(self, open_session: Callable[[], FeatureSession]) -> _Worker:
        """This process's worker; the first caller's function opens its session."""
        note = "bfloat16" if self._bfloat16 else "float32"
        return self._shared.acquire(lambda: _Worker(open_session(), ProgressCounter(self._total, "images", note)))

    def process(self, batch: Sequence[bytes]) -> Iterator[bytes]:  # noqa: D102
        for features, label, sha256 in zip(*self._worker.session.run(batch), strict=True):
            feature = {
                FEATURES: tf.train.Feature(bytes_list=tf.train.BytesList(value=[features.tobytes()])),
                LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "image/sha256": tf.train.Feature(bytes_list=tf.train.BytesList(value=[sha256])),
            }
            yield tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
        self._worker.progress.add(len(batch))


class Executor(base_beam_executor.BaseBeamExecutor):
    """Chooses how to compute, then streams every split once through the network: read, batch, compute, write."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the artifact. Raises InputError if `bfloat16` is `on` and cannot be had (`choose_session`)."""
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        features = artifact_utils.get_single_instance(output_dict["features"])
        splits: list[str] = json.loads(exec_properties["splits"])
        patterns = {split: f"{artifact_utils.get_split_uri([examples], split)}/*" for split in splits}
        prefix = Prefix(
            transform_directory=artifact_utils.get_single_uri(input_dict["transform_graph"]),
            backbone_directory=path_utils.serving_model_dir(artifact_utils.get_single_uri(input_dict["backbone"])),
            cut=exec_properties["cut"],
            output=exec_properties["output"],
        )
        sample = list(records.read(*patterns.values(), most=_PROBE_IMAGES))
        choice = choose_session(prefix, exec_properties["bfloat16"], sample)
        logging.getLogger(__name__).info("bfloat16: %s, %s", choice.bfloat16, choice.reason)
        extract = ExtractFeatures(prefix, choice.bfloat16, Shared(), _total(examples, splits))
        worker = extract.acquire(lambda: choice.session)  # so that a runner in this process uses what was tried
        batch_size = exec_properties["batch_size"]
        features.split_names = artifact_utils.encode_split_names(splits)
        examples_utils.set_payload_format(features, example_gen_pb2.FORMAT_TF_EXAMPLE)
        with self._make_beam_pipeline() as pipeline:
            for split, pattern in patterns.items():
                _ = (
                    pipeline
                    | f"Read[{split}]" >> beam.io.ReadFromTFRecord(pattern)
                    | f"Batch[{split}]" >> beam.BatchElements(min_batch_size=batch_size, max_batch_size=batch_size)
                    | f"Extract[{split}]" >> beam.ParDo(extract)
                    | f"Write[{split}]"
                    >> beam.io.WriteToTFRecord(f"{artifact_utils.get_split_uri([features], split)}/features")
                )
        worker.session.close()
        description = {
            "cut": prefix.cut,
            "output": prefix.output,
            "shape": choice.session.shape,
            "dtype": prefix.dtype.name,
            "bfloat16": choice.bfloat16,
            "bfloat16_error": choice.error,
            "bfloat16_reason": choice.reason,
            "backbone_sha256": read_record(prefix.backbone_directory).sha256,
        }
        with fileio.open(f"{features.uri}/{FORMAT_FILE}", "w") as file:
            file.write(json.dumps(description, indent=1))


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
        backbone: a Model that holds what `trainer.backbone.import_weights` writes.

    Outputs:
        features: Examples with `features` (one value: a little-endian array), `label_xf` and `image/sha256`; shape and
            dtype of the array are in `features.json` (`trainer.inputs.FeatureFormat`).
    """

    SPEC_CLASS = FeatureExtractorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        backbone: types.BaseChannel,
        cut: str,
        output: str,
        batch_size: int,
        bfloat16: str,
        code: str,
        splits: Sequence[str] = ("train", "eval"),
    ) -> None:
        """Wires the component.

        Args:
            examples: channel of the raw images.
            transform_graph: channel of Transform's graph.
            backbone: channel of the pre-trained network.
            cut: `pooled` or a block; see `trainer.rules.cut_for`.
            output: the block that `pooled` is the average of.
            batch_size: images that are computed at a time; bounds the memory.
            bfloat16: `auto`, `on` or `off`; see `feature_session.choose_session`.
            code: a hash of the source that decides what is written: a new one invalidates TFX's cache.
            splits: those that are trained or evaluated on; a test split is read by the Evaluator as raw images.
        """
        spec = FeatureExtractorSpec(
            examples=examples,
            transform_graph=transform_graph,
            backbone=backbone,
            features=types.Channel(type=standard_artifacts.Examples),
            cut=cut,
            output=output,
            batch_size=batch_size,
            bfloat16=bfloat16,
            splits=json.dumps(list(splits)),
            code=code,
        )
        super().__init__(spec=spec)
