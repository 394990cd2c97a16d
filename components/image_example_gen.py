"""ImageExampleGen: a folder of labelled images in, tf.Examples in splits and a record of what was not used out."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfx import types
from tfx.components.example_gen import component as example_gen
from tfx.components.example_gen import driver, utils, write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, base_driver, executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.experimental import simple_artifacts
from tfx.utils import proto_utils

from components.ingestion import ingest_record
from components.ingestion.image_ingestion import Distribute, Ingest, read_facts, read_rejected
from components.ingestion.image_layout import AUTO, TFRECORDS, Listing
from components.ingestion.image_splits import assign
from components.ingestion.slice_features import Edges
from components.ingestion.spans import read_spans, resolve
from core import progress
from core.errors import InputError
from core.image_limits import DEFAULT_LIMITS, ImageLimits
from core.uris import split_pattern

REJECTS = "rejects"
SPANS = "spans"
"""Custom property of the examples: JSON, a list of `span`, `version` and `folder` for each span that was read."""

CONTENT = "content_sha256"
"""Custom property of the examples: `ingest_record.content_hash` of all images."""

_CLASS_FOLDERS = "*/*"
_UNRESOLVED = "images"  # the input split's name until its pattern is resolved to spans


class ImageExampleGenSpec(ComponentSpec):
    """TFX's FileBasedExampleGenSpec and what is ours."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        standard_component_specs.INPUT_BASE_KEY: ExecutionParameter(type=str),
        standard_component_specs.INPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Input),
        standard_component_specs.OUTPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Output),
        standard_component_specs.RANGE_CONFIG_KEY: ExecutionParameter(type=range_config_pb2.RangeConfig, optional=True),
        "window": ExecutionParameter(type=int),
        "layout": ExecutionParameter(type=str),
        "metadata": ExecutionParameter(type=str),
        "group_by": ExecutionParameter(type=str),
        "near_duplicates": ExecutionParameter(type=int, optional=True),
        "edges": ExecutionParameter(type=str),
        "limits": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        standard_component_specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        REJECTS: ChannelParameter(type=simple_artifacts.File),
    }


class ImageFolderDriver(driver.FileBasedDriver):
    """Finds the spans, and fingerprints the files, before TFX decides whether an earlier result can be reused."""

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """As in TFX, but that the input has a split for every span of the window.

        Raises:
            InputError: if there is no such span, or a folder has no layout that is known.
        """
        del pipeline_info, component_info
        base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        pattern = _folder_of(_input_config(exec_properties).splits[0])
        found = resolve(base, pattern, _chosen(exec_properties), exec_properties["window"]) if pattern else []
        config = _input_config(exec_properties)
        if found:
            del config.splits[:]
        for span in found:
            name = json.dumps([span.number, span.version])
            config.splits.add(name=name, pattern=f"{span.folder}/{_CLASS_FOLDERS}")
        return exec_properties | {
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(config),
            utils.SPAN_PROPERTY_NAME: found[-1].number if found else 0,
            utils.VERSION_PROPERTY_NAME: found[-1].version if found else None,
            utils.FINGERPRINT_PROPERTY_NAME: _listing(exec_properties, config).fingerprint(),
        }

    def _prepare_output_artifacts(
        self,
        input_artifacts: dict[str, list[types.Artifact]],
        output_dict: dict[str, types.Channel],
        exec_properties: dict[str, Any],
        execution_id: int,
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, list[types.Artifact]]:
        """What Airflow's launcher asks for; TFX's driver would make the examples and forget the rejects."""
        outputs = base_driver.BaseDriver._prepare_output_artifacts(
            self, input_artifacts, output_dict, exec_properties, execution_id, pipeline_info, component_info
        )
        (examples,) = outputs[standard_component_specs.EXAMPLES_KEY]
        driver.update_output_artifact(exec_properties, examples.mlmd_artifact)
        return outputs


class Executor(base_beam_executor.BaseBeamExecutor):
    """Lists the files, has them read in a Beam pass, decides their splits, has them sorted into these in another."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes both artifacts. Bad files stop nothing here: ValidationGate judges what is recorded of them.

        Raises:
            InputError: if the folder has no layout that is known, or its metadata does not fit it.
            ValueError: a listed file is neither read nor rejected, a fault of ours.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        rejects = artifact_utils.get_single_instance(output_dict[REJECTS])
        config = _input_config(exec_properties)
        weights = _splits(exec_properties)
        if exec_properties["window"] > 1 and config.splits[0].name == _UNRESOLVED:
            raise InputError("data.window is more than 1, but this orchestrator's driver resolves only one span.")
        listing = _listing(exec_properties, config)
        group_by = exec_properties["group_by"]
        if group_by and group_by not in listing.metadata.columns:
            columns = ", ".join(listing.metadata.columns) or "none"
            raise InputError(f"data.group_by is {group_by!r}; the columns of data.metadata are: {columns}.")

        examples.split_names = artifact_utils.encode_split_names(list(weights))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        # The only name TFX has for TFRecords; its readers unpack just those files that end in `.gz`, and ours do not.
        examples_utils.set_file_format(examples, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))
        split_uris = {split: artifact_utils.get_split_uri([examples], split) for split in weights}
        scratch = f"{examples.uri}/.scratch"
        for folder in (scratch, rejects.uri):
            fileio.makedirs(folder)
        try:
            edges, limits = (json.loads(exec_properties[name]) for name in ("edges", "limits"))
            with self._make_beam_pipeline() as pipeline:
                _ = pipeline | "Ingest" >> Ingest(listing, group_by, scratch, edges, ImageLimits(**limits))
            facts = sorted(read_facts(scratch))
            assignment = assign(facts, weights, exec_properties.get("near_duplicates"))
            with fileio.open(f"{scratch}/splits.json", "w") as file:
                file.write(json.dumps(assignment.splits, ensure_ascii=False))
            with self._make_beam_pipeline() as pipeline:
                _ = pipeline | "Distribute" >> Distribute(scratch, f"{scratch}/splits.json", split_uris, len(facts))
            counts = ingest_record.write(
                rejects.uri,
                facts,
                assignment.splits,
                read_rejected(scratch),
                assignment.duplicates,
                list(weights),
                {
                    "ignored": listing.ignored,
                    "layout": listing.layout,
                    "given": listing.given,
                    "listed": None if listing.layout == TFRECORDS else len(listing.files),
                },
            )
        finally:
            if fileio.exists(scratch):
                fileio.rmtree(scratch)
        for split in weights:  # so that later stages know how much there is to do
            examples.set_int_custom_property(f"examples_{split}", counts[split])
        examples.set_string_custom_property(CONTENT, ingest_record.content_hash(facts))
        examples.set_string_custom_property(SPANS, json.dumps(_spans(config)))
        duplicates = f"{counts['duplicates']:,} duplicates" if counts["duplicates"] else ""
        done = counts["read"] + counts["rejected"]
        progress.report(done, done, "images", duplicates)


def _listing(exec_properties: dict[str, Any], config: example_gen_pb2.Input) -> Listing:
    base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    folders = [_folder_of(split) for split in config.splits]
    return read_spans(base, folders, exec_properties["layout"], exec_properties["metadata"])


def _input_config(exec_properties: dict[str, Any]) -> example_gen_pb2.Input:
    config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], config)
    return config


def _chosen(exec_properties: dict[str, Any]) -> int | None:
    """The span that TFX's RangeConfig names; None: the latest."""
    given = exec_properties.get(standard_component_specs.RANGE_CONFIG_KEY)
    if not given:
        return None
    config = range_config_pb2.RangeConfig()
    proto_utils.json_to_proto(given, config)
    return config.static_range.end_span_number if config.HasField("static_range") else None


def _folder_of(split: example_gen_pb2.Input.Split) -> str:
    """Of a span, or "" for the data folder itself."""
    return split.pattern.removesuffix(_CLASS_FOLDERS).rstrip("/")


def _spans(config: example_gen_pb2.Input) -> list[dict[str, Any]]:
    """What `SPANS` holds."""
    found = []
    for split in config.splits:
        if split.name != _UNRESOLVED:
            number, version = json.loads(split.name)
            found.append({"span": number, "version": version, "folder": _folder_of(split)})
    return found


def _splits(exec_properties: dict[str, Any]) -> dict[str, int]:
    config = example_gen_pb2.Output()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], config)
    return {split.name: split.hash_buckets for split in config.split_config.splits}


class ImageExampleGen(example_gen.FileBasedExampleGen):
    """A folder of labelled images, in any layout of `image_layout`, to tf.Examples.

    A FileBasedExampleGen, so that Kubeflow's v2 runner gives it TFX's span-finding driver.

    Outputs:
        examples: standard Examples, TFRecords of what `image_ingestion.make_example` makes.
        rejects: a File artifact (Vertex AI knows no types of ours): what `ingest_record` describes.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = ImageFolderDriver

    def __init__(
        self,
        input_base: str | data_types.RuntimeParameter,
        splits: dict[str, int],
        metadata: str | None,
        code: str,
        group_by: str | None = None,
        layout: str = AUTO,
        near_duplicates: int | None = None,
        span: int | None = None,
        window: int = 1,
        edges: Edges | None = None,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> None:
        """Wires the component.

        Args:
            input_base: the data folder. It may end in folders with TFX's `{SPAN}`, `{VERSION}` or date specs; those of
                a runtime parameter are fixed by its default, the folder before them by the run.
            splits: name -> weight; an image belongs to the split that its content's hash falls into, unless the layout
                gives it one.
            metadata: name of a file in the data folder whose columns become slices, or None.
            code: a hash of the source that decides what is written: a new one invalidates TFX's cache.
            group_by: a column of `metadata`: images with the same value share a split, whatever their content.
            layout: one of `image_layout.LAYOUTS`.
            near_duplicates: in how many bits the perceptual hashes of images may differ that share a split; None looks
                for identical images only.
            span: the last span to read; the latest there is if None.
            window: how many spans to read; see `spans.resolve`.
            edges: of the buckets that the pictures' statistics fall into; one bucket for all where there are none.
            limits: what is over them is a reject.
        """
        base, spans = split_pattern(input_base if isinstance(input_base, str) else input_base.default or "")
        if not isinstance(input_base, str):
            base = data_types.RuntimeParameter(input_base.name, str, base or None)
        pattern = f"{spans}/{_CLASS_FOLDERS}" if spans else _CLASS_FOLDERS
        chosen = None
        if span is not None:
            static = range_config_pb2.StaticRange(start_span_number=span, end_span_number=span)
            chosen = range_config_pb2.RangeConfig(static_range=static)
        weights = [example_gen_pb2.SplitConfig.Split(name=n, hash_buckets=weight) for n, weight in splits.items()]
        spec = ImageExampleGenSpec(
            input_base=base,
            input_config=example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name=_UNRESOLVED, pattern=pattern)]),
            output_config=example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=weights)),
            range_config=chosen,
            window=window,
            layout=layout,
            metadata=metadata or "",
            group_by=group_by or "",
            near_duplicates=near_duplicates,
            edges=json.dumps(edges or {}),
            limits=json.dumps(dataclasses.asdict(limits)),
            code=code,
            examples=types.Channel(type=standard_artifacts.Examples),
            rejects=types.Channel(type=simple_artifacts.File),
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
