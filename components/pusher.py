"""Pusher: TFX's, with an executor that verifies what it pushes and never leaves half a version."""

from __future__ import annotations

from typing import Any

from absl import logging
from tfx.components.pusher import component, executor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import Artifact, artifact_utils, standard_component_specs
from tfx.utils import io_utils, json_utils, proto_utils

from components.serving.push import push
from core import progress
from core.artifacts.monitoring import REFERENCE
from core.artifacts.pushed_model import DECIDED, DECISION, REJECTED_TO, WAITS
from core.settings import converter
from core.settings.converter import to_json
from core.settings.push import CardSettings


class Executor(executor.Executor):
    """Copies a blessed model to the push directory as `components.serving.push` does it."""

    def Do(  # noqa: N802 (TFX's interface)
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model, if both blessings are there, or has it wait for approval; records where it is.

        Raises:
            MachineError: the model is damaged.
            NotImplementedError: the destination is no folder.
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
        pushed = push(model, destination.filesystem.base_directory, card, custom["approval"], reference)
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


class Pusher(component.Pusher):
    """TFX's component, with its inputs, output and parameters.

    `custom_config` has the `card`'s settings, and whether a push needs `approval`.
    """

    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
