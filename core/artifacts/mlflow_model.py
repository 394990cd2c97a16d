"""What MlflowPublisher leaves: the folder of a model of MLflow's, and what it was registered as."""

from __future__ import annotations

from core.artifacts.base import Artifact

MLFLOW_MODEL = Artifact("MlflowPublisher", "mlflow_model")

REGISTERED = "registered"
"""Custom property: `models:/<name>/<version>`; absent where no tracking server was named."""
