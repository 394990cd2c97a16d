"""Pusher: TFX's, with an executor that verifies what it pushes and never leaves half a version."""

from __future__ import annotations

from typing import Any, ClassVar

from absl import logging
from tfx.components.pusher import executor
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import pusher_pb2
from tfx.types import Artifact, BaseChannel, Channel, artifact_utils, standard_component_specs
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_artifacts import Examples, Model, PushedModel
from tfx.utils import io_utils, json_utils, proto_utils

from components.serving.push import push
from core import progress, signing
from core.artifacts.ingest_record import CONTENT_SHA256
from core.artifacts.monitoring import REFERENCE
from core.artifacts.provenance import Origin
from core.artifacts.pushed_model import DECIDED, DECISION, REJECTED_TO, WAITS
from core.settings import converter
from core.settings.converter import to_json
from core.settings.push import CardSettings

_EXAMPLES, _BACKBONE = "examples", "backbone"


class Executor(executor.Executor):
    """Pushes a blessed model with `components.serving.push`."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it has both blessings, or has it wait for approval; records where it is.

        Raises:
            MachineError: the model is damaged.
            NotImplementedError: the destination is not a folder.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        if destination.WhichOneof("destination") != "filesystem":
            raise NotImplementedError(f"models are pushed to folders only, and not to {destination}")
        custom = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        model = self.GetModelPath(input_dict)
        # The artifact's own copy comes first: once the version serves, nothing is left that could fail.
        io_utils.copy_dir(model, pushed_model.uri)
        card = converter.from_dict(custom["card"], CardSettings)
        blessing = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_BLESSING_KEY]).uri
        reference = REFERENCE.read(blessing) if fileio.exists(REFERENCE.path(blessing)) else None
        key = signing.private_key(custom["signing_key"]) if custom["signing_key"] else None
        origin, directory = self._origin(input_dict, custom), destination.filesystem.base_directory
        pushed = push(model, directory, card, origin, custom["approval"], reference, key)
        if pushed.note:
            logging.warning("%s", pushed.note)
        version = pushed.path.rpartition("/")[2]
        if pushed.state == "serves":
            self._MarkPushed(pushed_model, pushed_destination=pushed.path, pushed_version=version)
            return
        self._MarkNotPushed(pushed_model)
        if pushed.state == "waits":
            pushed_model.set_string_custom_property(WAITS, pushed.path)
            progress.report(1, 1, "models", f"version {version} waits for approval")
        else:
            pushed_model.set_string_custom_property(DECIDED, to_json(DECISION.read(pushed.path)))
            pushed_model.set_string_custom_property(REJECTED_TO, pushed.path)

    def _origin(self, input_dict: dict[str, list[Artifact]], custom: dict[str, Any]) -> Origin:
        (examples,), (backbone,) = input_dict[_EXAMPLES], input_dict[_BACKBONE]
        source, sha256 = (backbone.get_string_custom_property(name) for name in ("source", "sha256"))
        return Origin(
            **custom["origin"],
            images=examples.get_string_custom_property(CONTENT_SHA256) or None,
            weights=(source, sha256) if sha256 else None,
            run=self._context._pipeline_run_id if self._context else None,  # TFX gives it under no other name
        )


class _Spec(standard_component_specs.PusherSpec):
    INPUTS: ClassVar[dict[str, ChannelParameter]] = {
        **standard_component_specs.PusherSpec.INPUTS,
        _EXAMPLES: ChannelParameter(type=Examples),
        _BACKBONE: ChannelParameter(type=Model),
    }


class Pusher(BaseComponent):
    """TFX's component, with the inputs that the model was made from."""

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: BaseChannel,
        model_blessing: BaseChannel,
        infra_blessing: BaseChannel,
        examples: BaseChannel,
        backbone: BaseChannel,
        push_destination: pusher_pb2.PushDestination | RuntimeParameter,
        custom_config: dict[str, Any],
    ) -> None:
        """Wires the component.

        Args:
            custom_config: the settings of the `card`, whether a push needs `approval`, the path of a `signing_key` or
                None, and the `origin`: what is known of the `Origin` before a run.
        """
        spec = _Spec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            examples=examples,
            backbone=backbone,
            push_destination=push_destination,
            custom_config=json_utils.dumps(custom_config),
            pushed_model=Channel(type=PushedModel),
        )
        super().__init__(spec=spec)
