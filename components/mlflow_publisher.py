"""MlflowPublisher: writes what Pusher pushed as an MLflow model, and registers it if there is a tracking server."""

import hashlib

import msgspec
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing, PushedModel

from components.serving.mlflow_model import write_model
from components.serving.mlflow_registry import Registry
from core import checksums, progress
from core.artifacts.mlflow_model import REGISTERED
from core.artifacts.pushed_model import pushed_to
from core.artifacts.verdict import VERDICT
from core.settings import converter
from core.settings.publish import MlflowSettings

_SHA256 = "model_sha256"  # tag: of the list of checksums, which says which model this is


@component
def MlflowPublisher(  # noqa: N802 - a component is a class to its users
    pushed_model: InputArtifact[PushedModel],
    blessing: InputArtifact[ModelBlessing],
    mlflow_model: OutputArtifact[File],
    settings: Parameter[str],
    pipeline_name: Parameter[str],
    parameters: Parameter[str] = "{}",
    code: Parameter[str] = "",
) -> None:
    """Writes the pushed version as an MLflow model, and registers it unless that was done before.

    Args:
        pushed_model: Pusher's; if it pushed nothing, nothing is done.
        blessing: ModelGate's, with the metrics of the test split for the MLflow run.
        mlflow_model: the folder.
        settings: JSON of `MlflowSettings`.
        pipeline_name: default name of the experiment and the registered model.
        parameters: of the MLflow run, a JSON object.
        code: hash of this component's source, so that TFX's cache notices when it changes.

    Raises:
        MachineError: the server cannot be reached, or refuses.
    """
    del code
    pushed = {
        "pushed": pushed_model.get_int_custom_property("pushed"),
        "pushed_destination": pushed_model.get_string_custom_property("pushed_destination"),
    }
    version = pushed_to(pushed)
    if version is None:
        progress.report(0, None, "models", "nothing was pushed")
        return
    write_model(version, mlflow_model.uri)
    wanted = converter.from_json(settings, MlflowSettings)
    if wanted.tracking_uri is None:
        return
    name = wanted.registered_model or pipeline_name
    number = version.rpartition("/")[2]
    identity = {_SHA256: hashlib.sha256((checksums.listed(version) or "").encode()).hexdigest()}
    registry = Registry(wanted.tracking_uri)
    found = registry.find(name, identity)
    registered = found or registry.register(
        mlflow_model.uri,
        name,
        wanted.experiment or pipeline_name,
        tags=identity | {"pushed_version": number},
        parameters=msgspec.json.decode(parameters),
        metrics=_metrics(blessing.uri),
    )
    mlflow_model.set_string_custom_property(REGISTERED, f"models:/{name}/{registered}")
    progress.report(1, 1, "models", f"models:/{name}/{registered}{', registered before' if found else ''}")


def _metrics(blessing: str) -> dict[str, float]:
    measured = VERDICT.read(blessing).overall.metrics
    return {name: found.value for name, found in measured.items() if found.value is not None}
