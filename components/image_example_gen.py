"""ImageExampleGen: a folder of class folders of images in, tf.Examples in splits and a list of rejects out."""

from __future__ import annotations

import re
from typing import Any

from tfx import types
from tfx.components.example_gen import component as example_gen
from tfx.components.example_gen import driver, input_processor, utils, write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import proto_utils

from components.image_folder import fingerprint, list_files
from components.image_ingestion import REJECTS_FILE, Ingest, read_counts, read_rejects
from components.image_metadata import read_metadata
from trainer.errors import InputError

REJECTS = "rejects"

_CLASS_FOLDERS = "*/*"
_BEFORE_SPAN = re.compile(r"/(?=[^/]*\{(?:SPAN|VERSION|YYYY|MM|DD))")
_SHOWN_REJECTS = 10


class Rejects(types.Artifact):
    """The files that could not be used (`image_ingestion.REJECTS_FILE`), and counts of all (`COUNTS_FILE`)."""

    TYPE_NAME = "Rejects"


class ImageExampleGenSpec(ComponentSpec):
    """TFX's FileBasedExampleGenSpec and what is ours."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        standard_component_specs.INPUT_BASE_KEY: ExecutionParameter(type=str),
        standard_component_specs.INPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Input),
        standard_component_specs.OUTPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Output),
        standard_component_specs.RANGE_CONFIG_KEY: ExecutionParameter(type=range_config_pb2.RangeConfig, optional=True),
        "max_rejected": ExecutionParameter(type=float),
        "metadata": ExecutionParameter(type=str),
        "group_by": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        standard_component_specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        REJECTS: ChannelParameter(type=Rejects),
    }


class _SpanFolders(input_processor.FileBasedInputProcessor):
    """Spans and versions as in TFX, but by looking at folders only: TFX would also open every file's metadata."""

    def resolve_span_and_version(self) -> tuple[int, int | None]:
        folders = [
            example_gen_pb2.Input.Split(name=split.name, pattern=_span_folder(split.pattern)) for split in self._splits
        ]
        try:
            self._fingerprint, span, version = utils.calculate_splits_fingerprint_span_and_version(
                self._input_base_uri, folders, self._range_config
            )
        except ValueError as error:
            raise InputError(f"No span of the data is found under {self._input_base_uri}: {error}") from error
        return span, version


class ImageFolderDriver(driver.FileBasedDriver):
    """Finds the span, and fingerprints the files, before TFX decides whether an earlier result can be reused."""

    def get_input_processor(  # noqa: D102
        self,
        splits: list[example_gen_pb2.Input.Split],
        range_config: range_config_pb2.RangeConfig | None = None,
        input_base_uri: str | None = None,
    ) -> input_processor.InputProcessor:
        return _SpanFolders(input_base_uri, splits, range_config)

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """As in TFX. Raises InputError if the folder is not laid out as one folder per class."""
        resolved = super().resolve_exec_properties(exec_properties, pipeline_info, component_info)
        folder, metadata = _data_folder(resolved), resolved["metadata"]
        resolved[utils.FINGERPRINT_PROPERTY_NAME] = fingerprint(folder, list_files(folder, metadata), metadata)
        return resolved


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
        folder = _data_folder(exec_properties)
        splits = _splits(exec_properties)
        group_by = exec_properties["group_by"]
        files = list_files(folder, exec_properties["metadata"])
        metadata = read_metadata(folder, exec_properties["metadata"], (file.path for file in files))
        if group_by and group_by not in metadata.columns:
            columns = ", ".join(metadata.columns) or "none"
            raise InputError(f"data.group_by is {group_by!r}; the columns of data.metadata are: {columns}.")

        examples.split_names = artifact_utils.encode_split_names(list(splits))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        # The only name TFX has for TFRecords; its readers unpack just those files that end in `.gz`, and ours do not.
        examples_utils.set_file_format(examples, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))
        split_uris = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Ingest" >> Ingest(folder, files, metadata, splits, group_by, split_uris, rejects.uri)
        counts = read_counts(rejects.uri)
        for split in splits:  # so that later stages know how much there is to do
            examples.set_int_custom_property(f"examples_{split}", counts[split])
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


def _data_folder(exec_properties: dict[str, Any]) -> str:
    config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], config)
    span = _span_folder(config.splits[0].pattern)
    base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    return f"{base}/{span}" if span else base


def _span_folder(pattern: str) -> str:
    return pattern.removesuffix(_CLASS_FOLDERS).rstrip("/")


def _splits(exec_properties: dict[str, Any]) -> dict[str, int]:
    config = example_gen_pb2.Output()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], config)
    return {split.name: split.hash_buckets for split in config.split_config.splits}


class ImageExampleGen(example_gen.FileBasedExampleGen):
    """Images in class folders to tf.Examples.

    A FileBasedExampleGen, so that Kubeflow's v2 runner gives it TFX's span-finding driver.

    Outputs:
        examples: standard Examples, TFRecords of what `image_ingestion.make_example` makes.
        rejects: `Rejects`.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = ImageFolderDriver

    def __init__(
        self,
        input_base: str,
        splits: dict[str, int],
        max_rejected: float,
        metadata: str | None,
        code: str,
        group_by: str | None = None,
        range_config: range_config_pb2.RangeConfig | None = None,
    ) -> None:
        """Wires the component.

        Args:
            input_base: the data folder. It may end in folders with TFX's `{SPAN}`, `{VERSION}` or date specs.
            splits: name -> weight; an image belongs to the split that its content's hash falls into.
            max_rejected: the fraction of files that may be unusable before the run stops.
            metadata: name of a CSV file in the data folder whose columns become slices, or None.
            code: a hash of the source that decides what is written: a new one invalidates TFX's cache.
            group_by: a column of `metadata`: images with the same value share a split, whatever their content.
            range_config: which span; the latest if None.
        """
        base, *spans = _BEFORE_SPAN.split(input_base.rstrip("/"), maxsplit=1)
        pattern = "/".join([*spans, _CLASS_FOLDERS])
        weights = [example_gen_pb2.SplitConfig.Split(name=n, hash_buckets=weight) for n, weight in splits.items()]
        spec = ImageExampleGenSpec(
            input_base=base,
            input_config=utils.make_default_input_config(pattern),
            output_config=example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=weights)),
            range_config=range_config,
            max_rejected=float(max_rejected),
            metadata=metadata or "",
            group_by=group_by or "",
            code=code,
            examples=types.Channel(type=standard_artifacts.Examples),
            rejects=types.Channel(type=Rejects),
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
