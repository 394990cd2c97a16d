"""Which component checks whether the model serves: ServingCheck, or TFX's InfraValidator where there are containers."""

from __future__ import annotations

import dataclasses

from tfx.components import InfraValidator
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.proto import infra_validator_pb2
from tfx.types import BaseChannel

from components.serving_check import ServingCheck
from core import signatures
from core.settings.converter import to_json
from core.settings.serving import InfraValidatorSettings, ServingSettings
from pipeline.code_hash import code_hash


def serving_validator(serving: ServingSettings, model: BaseChannel, examples: BaseChannel) -> BaseComponent:
    """The component whose output `blessing`, an InfraBlessing, says whether the model serves."""
    if serving.validator == "serving_check":
        return ServingCheck(
            model=model,
            examples=examples,
            # Settings of the other validator and of `serve` are left out: editing them must not run the check again.
            settings=to_json(dataclasses.replace(serving, infra_validator=InfraValidatorSettings(), request_log=None)),
            code=code_hash("components.serving_check"),
        )
    infra = serving.infra_validator
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(image_name=infra.image, tags=[infra.tag]),
        model_name="classifier",
    )
    if infra.platform == "docker":
        spec.local_docker.SetInParent()
    else:
        spec.kubernetes.active_deadline_seconds = serving.timeout_seconds
        if infra.service_account:
            spec.kubernetes.service_account_name = infra.service_account
    return InfraValidator(
        model=model,
        examples=examples,
        serving_spec=spec,
        validation_spec=infra_validator_pb2.ValidationSpec(
            max_loading_time_seconds=round(serving.max_load_seconds or serving.timeout_seconds), num_tries=infra.tries
        ),
        request_spec=infra_validator_pb2.RequestSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServingRequestSpec(signature_names=[signatures.EXAMPLES]),
            split_name="test",
            num_examples=infra.requests,
        ),
    )
