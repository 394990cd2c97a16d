"""The settings `mlflow`: where pushed models are also registered."""

import dataclasses
import re

from core.settings.checks import require


@dataclasses.dataclass(frozen=True)
class MlflowSettings:
    """How `publish: mlflow` registers a pushed model; docs/serving.md shows it.

    Credentials come from MLflow's own environment variables: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN.

    Attributes:
        tracking_uri: of the tracking server, such as `http://mlflow:5000`; null only writes the model's folder.
        experiment: name of the experiment for the model's run; null: the pipeline's name.
        registered_model: name of the registered model; null: the pipeline's name.
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
