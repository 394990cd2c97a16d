"""ImageExampleGen: turns a folder of labeled images into tf.Examples in splits, and a record of what was not used."""

from __future__ import annotations

from typing import Any

import msgspec
from absl import logging
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

from components.ingestion import earlier_reads
from components.ingestion.earlier_reads import EarlierReads
from components.ingestion.image_ingestion import content_hash, count, distribute, ingest, read_results
from components.ingestion.image_splits import assign
from components.ingestion.layouts.listing import Listing
from components.ingestion.spans import read_spans, resolve
from core import progress, tfrecords
from core.artifacts import ingest_record
from core.artifacts.ingest_record import Span
from core.errors import InputError
from core.settings import converter
from core.settings.data import IngestionConfig
from core.uris import split_pattern

_CLASS_FOLDERS = "*/*"
_UNRESOLVED = "images"  # the input split's name until its pattern is resolved to spans


class ImageExampleGenSpec(ComponentSpec):
    """What TFX's drivers for FileBasedExampleGens need, plus our own parameters."""

    PARAMETERS = {  # noqa: RUF012 (TFX's interface, as below)
        standard_component_specs.INPUT_BASE_KEY: ExecutionParameter(type=str),
        standard_component_specs.INPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Input),
        standard_component_specs.RANGE_CONFIG_KEY: ExecutionParameter(type=range_config_pb2.RangeConfig, optional=True),
        "config": ExecutionParameter(type=str),
        "code": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        ingest_record.EXAMPLES.output: ChannelParameter(type=standard_artifacts.Examples),
        ingest_record.RECORD.output: ChannelParameter(type=simple_artifacts.File),
    }


class ImageFolderDriver(driver.FileBasedDriver):
    """Finds the spans, and fingerprints the files, before TFX decides whether an earlier result can be reused."""

    def resolve_exec_properties(self, exec_properties: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """As in TFX, except that the input has a split for every span of the window; raises InputError as `Do` does."""
        base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        sources = _input_config(exec_properties)
        pattern = _folder_of(sources.splits[0])
        window = _config(exec_properties).window
        found = resolve(base, pattern, _chosen(exec_properties), window) if pattern else []
        if found:
            del sources.splits[:]
        for span in found:
            sources.splits.add(name=msgspec.json.encode(span), pattern=f"{span.folder}/{_CLASS_FOLDERS}")
        return exec_properties | {
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(sources),
            utils.SPAN_PROPERTY_NAME: found[-1].span if found else 0,
            utils.VERSION_PROPERTY_NAME: found[-1].version if found else None,
            utils.FINGERPRINT_PROPERTY_NAME: _listing(exec_properties, sources).fingerprint(),
        }

    def _prepare_output_artifacts(
        self, exec_properties: dict[str, Any], **call: Any
    ) -> dict[str, list[types.Artifact]]:
        """Called by Airflow's launcher; TFX's driver would prepare the examples and forget the rejects."""
        outputs = base_driver.BaseDriver._prepare_output_artifacts(self, exec_properties=exec_properties, **call)
        (examples,) = outputs[ingest_record.EXAMPLES.output]
        driver.update_output_artifact(exec_properties, examples.mlmd_artifact)
        return outputs


class Executor(base_beam_executor.BaseBeamExecutor):
    """Lists the files, reads them in one Beam pass, decides their splits, and writes these in a second pass."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes both artifacts. Bad files do not stop it: ValidationGate judges what is recorded about them.

        Raises:
            InputError: there is no such span, a folder has no known layout, or its metadata does not fit it.
            ValueError: a listed file is neither read nor rejected: an internal error.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[ingest_record.EXAMPLES.output])
        record = artifact_utils.get_single_instance(output_dict[ingest_record.RECORD.output])
        sources, config = _input_config(exec_properties), _config(exec_properties)
        if config.window > 1 and sources.splits[0].name == _UNRESOLVED:
            raise InputError("data.window is more than 1, but this orchestrator's driver resolves only one span.")
        listing = _listing(exec_properties, sources)
        for line in (listing.describe(), *listing.remarks, *listing.notes(config.ignore)):
            logging.info(line)
        if config.group_by and config.group_by not in listing.metadata.columns:
            columns = ", ".join(listing.metadata.columns) or "none"
            raise InputError(f"data.group_by is {config.group_by!r}; the columns of data.metadata are: {columns}.")

        examples.split_names = artifact_utils.encode_split_names(list(config.splits))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        # TFX's only name for TFRecords; its readers decompress only files that end in `.gz`, and ours do not.
        examples_utils.set_file_format(examples, write_split.to_file_format_str(example_gen_pb2.FORMAT_TFRECORDS_GZIP))
        split_uris = {split: artifact_utils.get_split_uri([examples], split) for split in config.splits}
        name = earlier_reads.file_name(listing, exec_properties["config"], exec_properties["code"])
        earlier = EarlierReads.beside(examples.uri, name) if self._may_reuse() else EarlierReads()
        places = earlier.places(listing)
        scratch = f"{examples.uri}/.scratch"
        for folder in (scratch, record.uri):
            fileio.makedirs(folder)
        try:
            with self._make_beam_pipeline() as pipeline:
                ingest(pipeline, listing, config, scratch, earlier, places)
            facts, rejects, no_pictures = read_results(scratch)
            assignment = assign(facts, config, listing.given)
            with self._make_beam_pipeline() as pipeline:
                distribute(pipeline, scratch, assignment.splits, split_uris)
        finally:
            fileio.rmtree(scratch)
            tfrecords.clear_unfinished(examples.uri)
        counts = count(listing, facts, rejects, assignment, no_pictures)
        ingest_record.COUNTS.write(record.uri, counts)
        ingest_record.IGNORED.write(record.uri, sorted([*listing.ignored, *no_pictures]))
        ingest_record.REJECTS.write(record.uri, rejects)
        ingest_record.LEFT_OUT.write(record.uri, assignment.left_out)
        ingest_record.DUPLICATES.write(record.uri, assignment.duplicates)
        for split, number in counts.splits.items():
            examples.set_int_custom_property(ingest_record.count_property(split), number)
        examples.set_string_custom_property(ingest_record.CONTENT_SHA256, content_hash(facts))
        examples.set_string_custom_property(ingest_record.SPANS, ingest_record.spans_property(_spans(sources)))
        earlier_reads.write(examples.uri, name, listing, facts, assignment.splits)
        found = {
            "unchanged since an earlier run": len(places),
            "left out": counts.left_out,
            "duplicates": counts.duplicates,
        }
        note = " · ".join(f"{number:,} {what}" for what, number in found.items() if number)
        done = counts.read + counts.left_out + counts.rejected + len(no_pictures)
        progress.report(done, done, "images", note)

    def _may_reuse(self) -> bool:
        """Whether `runtime.cache` allows reusing results of earlier runs, as far as the orchestrator tells."""
        node = self._context.pipeline_node if self._context else None
        return node is not None and node.execution_options.caching_options.enable_cache


def _listing(exec_properties: dict[str, Any], sources: example_gen_pb2.Input) -> Listing:
    base, config = exec_properties[standard_component_specs.INPUT_BASE_KEY], _config(exec_properties)
    folders = [_folder_of(split) for split in sources.splits]
    return read_spans(base, folders, config)


def _config(exec_properties: dict[str, Any]) -> IngestionConfig:
    return converter.from_json(exec_properties["config"], IngestionConfig)


def _input_config(exec_properties: dict[str, Any]) -> example_gen_pb2.Input:
    return proto_utils.json_to_proto(
        exec_properties[standard_component_specs.INPUT_CONFIG_KEY], example_gen_pb2.Input()
    )


def _chosen(exec_properties: dict[str, Any]) -> int | None:
    """The span that TFX's RangeConfig names; None: the latest."""
    given = exec_properties.get(standard_component_specs.RANGE_CONFIG_KEY) or "{}"
    config = proto_utils.json_to_proto(given, range_config_pb2.RangeConfig())
    return config.static_range.end_span_number if config.HasField("static_range") else None


def _folder_of(split: example_gen_pb2.Input.Split) -> str:
    """The folder of a span, or "" for the data folder itself."""
    return split.pattern.removesuffix(_CLASS_FOLDERS).rstrip("/")


def _spans(sources: example_gen_pb2.Input) -> list[Span]:
    """The spans that were resolved."""
    return [msgspec.json.decode(split.name, type=Span) for split in sources.splits if split.name != _UNRESOLVED]


class ImageExampleGen(example_gen.FileBasedExampleGen):
    """A folder of labeled images, in any layout of `image_layout`, to tf.Examples.

    A FileBasedExampleGen, so that Kubeflow's v2 runner gives it TFX's span-finding driver; its outputs are those of
    `core.artifacts.ingest_record`.
    """

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = ImageFolderDriver

    def __init__(
        self,
        input_base: str | data_types.RuntimeParameter,
        config: IngestionConfig,
        code: str,
        span: int | None = None,
    ) -> None:
        """Wires the component.

        Args:
            input_base: the data folder. It may end in folders with TFX's `{SPAN}`, `{VERSION}` or date specs; in a
                runtime parameter, its default fixes these, and the run fixes the folder before them.
            code: a hash of the source code that decides what is written.
            span: the last span to read; None: the latest.
        """
        base, spans = split_pattern(input_base if isinstance(input_base, str) else input_base.default or "")
        if not isinstance(input_base, str):
            base = data_types.RuntimeParameter(input_base.name, str, base or None)
        pattern = f"{spans}/{_CLASS_FOLDERS}" if spans else _CLASS_FOLDERS
        chosen = None
        if span is not None:
            static = range_config_pb2.StaticRange(start_span_number=span, end_span_number=span)
            chosen = range_config_pb2.RangeConfig(static_range=static)
        spec = ImageExampleGenSpec(
            input_base=base,
            input_config=example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name=_UNRESOLVED, pattern=pattern)]),
            range_config=chosen,
            config=converter.to_json(config),
            code=code,
            examples=types.Channel(type=standard_artifacts.Examples),
            rejects=types.Channel(type=simple_artifacts.File),
        )
        base_beam_component.BaseBeamComponent.__init__(self, spec=spec)
