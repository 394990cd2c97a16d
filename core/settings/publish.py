"""The settings `mlflow`: where the models that are pushed are registered, too."""

import dataclasses
import re

from core.settings.checks import require


@dataclasses.dataclass(frozen=True)
class MlflowSettings:
    """How `publish: mlflow` registers a pushed model; docs/serving.md shows it.

    MLflow's own variables say who asks: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN.

    Attributes:
        tracking_uri: of the tracking server, such as `http://mlflow:5000`; null writes the model's folder only.
        experiment: that the model's run belongs to, by name; null: the pipeline's name.
        registered_model: that it is a version of; null: the pipeline's name.
    """

    tracking_uri: str | None = None
    experiment: str | None = None
    registered_model: str | None = None

    def __post_init__(self) -> None:
        uri = self.tracking_uri
        require(
            uri is None or re.match(r"https?://[^/@]+", uri) is not None,
            f"tracking_uri is {uri!r}; give the server's http:// or https:// address, without a password",
        )
