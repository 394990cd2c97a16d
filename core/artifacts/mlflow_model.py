"""What MlflowPublisher writes: the folder of an MLflow model, and the name and version it was registered as."""

from __future__ import annotations

from core.artifacts.base import Artifact

MLFLOW_MODEL = Artifact("MlflowPublisher", "mlflow_model")

REGISTERED = "registered"
"""Custom property: `models:/<name>/<version>`; absent if the settings name no tracking server."""
