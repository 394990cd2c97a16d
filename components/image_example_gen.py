"""ImageExampleGen: a folder of class folders of images in, tf.Examples in splits and a list of rejects out."""

from __future__ import annotations

import json
from typing import Any

from tfx import types
from tfx.components.example_gen import component as example_gen
from tfx.components.example_gen import driver, utils, write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.experimental import simple_artifacts
from tfx.utils import proto_utils

from components.image_ingestion import REJECTS_FILE, Ingest, read_counts, read_rejects
from components.spans import read_spans, resolve, split_pattern
from trainer.errors import InputError

REJECTS = "rejects"
SPANS = "spans"
"""Custom property of the examples: JSON, a list of `span`, `version` and `folder` for each span that was read."""

_CLASS_FOLDERS = "*/*"
_UNRESOLVED = "images"  # the input split's name until its pattern is resolved to spans
_SHOWN_REJECTS = 10


class ImageExampleGenSpec(ComponentSpec):
    """TFX's FileBasedExampleGenSpec and what is ours."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        standard_component_specs.INPUT_BASE_KEY: ExecutionParameter(type=str),
        standard_component_specs.INPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Input),
        standard_component_specs.OUTPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Output),
        standard_component_specs.RANGE_CONFIG_KEY: ExecutionParameter(type=range_config_pb2.RangeConfig, optional=True),
        "window": ExecutionParameter(type=int),
        "max_rejected": ExecutionParameter(type=float),
        "metadata": ExecutionParameter(type=str),
        "group_by": ExecutionParameter(type=str),
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
            InputError: if there is no such span, or a folder is not laid out as one folder per class.
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
        _, _, fingerprint = read_spans(base, [span.folder for span in found] or [""], exec_properties["metadata"])
        return exec_properties | {
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(config),
            utils.SPAN_PROPERTY_NAME: found[-1].number if found else 0,
            utils.VERSION_PROPERTY_NAME: found[-1].version if found else None,
            utils.FINGERPRINT_PROPERTY_NAME: fingerprint,
        }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Lists the files, has them read in one Beam pass, and judges the rejects."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes both artifacts.

        Raises:
            InputError: if the folder is not laid out as one folder per class, metadata.csv does not fit it, or more
                than `max_rejected` of the files, or all, cannot be used.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        rejects = artifact_utils.get_single_instance(output_dict[REJECTS])
        base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        config = _input_config(exec_properties)
        splits = _splits(exec_properties)
        group_by = exec_properties["group_by"]
        if exec_properties["window"] > 1 and config.splits[0].name == _UNRESOLVED:
            raise InputError("data.window is more than 1, but this orchestrator's driver resolves only one span.")
        folders = [_folder_of(split) for split in config.splits]
        files, metadata, _ = read_spans(base, folders, exec_properties["metadata"])
        if group_by and group_by not in metadata.columns:
            columns = ", ".join(metadata.columns) or "none"
            raise InputError(f"data.group_by is {group_by!r}; the columns of data.metadata are: {columns}.")

        examples.split_names = artifact_utils.encode_split_names(list(splits))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        # The only name TFX has for TFRecords; its readers unpack just those files that end in `.gz`, and ours do not.
        examples_utils.set_file_format(examples, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))
        split_uris = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
        fileio.makedirs(rejects.uri)
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Ingest" >> Ingest(base, files, metadata, splits, group_by, split_uris, rejects.uri)
        counts = read_counts(rejects.uri)
        for split in splits:  # so that later stages know how much there is to do
            examples.set_int_custom_property(f"examples_{split}", counts[split])
        examples.set_string_custom_property(SPANS, json.dumps(_spans(config)))
        _check_rejects(rejects.uri, exec_properties["max_rejected"])


def _check_rejects(rejects_uri: str, max_rejected: float) -> None:
    counts = read_counts(rejects_uri)
    found, rejected = counts["found"], counts["rejected"]
    if counts["read"] and rejected <= max_rejected * found:
        return
    first = read_rejects(rejects_uri, _SHOWN_REJECTS)
    shown = "\n".join(f"  {reject['path']}: {reject['reason']}" for reject in first)
    more = f"\n  and {rejected - len(first)} more" if rejected > len(first) else ""
    raise InputError(
        f"{rejected} of {found} files ({rejected / found:.1%}) cannot be used as images; data.max_rejected allows "
        f"{max_rejected:.1%}:\n{shown}{more}\nRepair or remove them, or raise data.max_rejected: the run then goes on "
        f"without them and lists them all in {REJECTS_FILE} of ImageExampleGen's output {REJECTS}."
    )


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
    """Images in class folders to tf.Examples.

    A FileBasedExampleGen, so that Kubeflow's v2 runner gives it TFX's span-finding driver.

    Outputs:
        examples: standard Examples, TFRecords of what `image_ingestion.make_example` makes.
        rejects: a File artifact (Vertex AI knows no types of ours): the files that could not be used
            (`image_ingestion.REJECTS_FILE`), and counts of all (`COUNTS_FILE`).
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = ImageFolderDriver

    def __init__(
        self,
        input_base: str | data_types.RuntimeParameter,
        splits: dict[str, int],
        max_rejected: float,
        metadata: str | None,
        code: str,
        group_by: str | None = None,
        span: int | None = None,
        window: int = 1,
    ) -> None:
        """Wires the component.

        Args:
            input_base: the data folder. It may end in folders with TFX's `{SPAN}`, `{VERSION}` or date specs; those of
                a runtime parameter are fixed by its default, the folder before them by the run.
            splits: name -> weight; an image belongs to the split that its content's hash falls into.
            max_rejected: the fraction of files that may be unusable before the run stops.
            metadata: name of a CSV file in the data folder whose columns become slices, or None.
            code: a hash of the source that decides what is written: a new one invalidates TFX's cache.
            group_by: a column of `metadata`: images with the same value share a split, whatever their content.
            span: the last span to read; the latest there is if None.
            window: how many spans to read; see `spans.resolve`.
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
            max_rejected=float(max_rejected),
            metadata=metadata or "",
            group_by=group_by or "",
            code=code,
            examples=types.Channel(type=standard_artifacts.Examples),
            rejects=types.Channel(type=simple_artifacts.File),
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
