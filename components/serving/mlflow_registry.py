"""Registers a model with an MLflow tracking server: https://mlflow.org/docs/latest/api_reference/rest-api.html"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import requests

from core import atomic_io, checksums, storage
from core.errors import MachineError

_SECONDS = 60.0  # without an answer
_ARTIFACTS = "mlflow-artifacts:"
_AT_ONCE = 100  # parameters or tags in a request
_LONGEST = 6000  # characters of a parameter


class Registry:
    """A tracking server's experiments and registered models."""

    def __init__(self, tracking_uri: str) -> None:
        """Sends nothing yet; credentials come from MLflow's own environment variables."""
        self._uri = tracking_uri.rstrip("/")
        self._session = requests.Session()
        user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
        if user:
            self._session.auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        elif token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def find(self, name: str, tags: Mapping[str, str]) -> str | None:
        """The newest version number of a registered model that has these tags; None if there is none."""
        page = ""
        found = []
        while True:
            search = {"filter": f"name='{name}'", "max_results": 1000, "page_token": page}
            answer = self._ask("GET", "model-versions/search", params=search)
            for version in answer.get("model_versions", []):
                has = {tag["key"]: tag.get("value") for tag in version.get("tags", [])}
                if tags.items() <= has.items():
                    found.append(int(version["version"]))
            if not (page := answer.get("next_page_token", "")):
                return str(max(found)) if found else None

    def register(
        self,
        folder: str,
        name: str,
        experiment: str,
        *,
        tags: Mapping[str, str],
        parameters: Mapping[str, object],
        metrics: Mapping[str, float],
    ) -> str:
        """Creates a run with the model's folder, parameters and metrics, and from it a version of the registered model.

        If that fails, the run ends as `FAILED`.

        Args:
            folder: an MLflow model, local or remote.
            tags: of the run and of the version.

        Returns:
            The version's number.

        Raises:
            MachineError: the server cannot be reached, or refuses.
        """
        run = self._start_run(experiment, tags)
        status = "FAILED"
        try:
            now = int(time.time() * 1000)
            for some in _portions({"key": key, "value": str(value)[:_LONGEST]} for key, value in parameters.items()):
                self._ask("POST", "runs/log-batch", json={"run_id": run["run_id"], "params": some})
            measured = [{"key": key, "value": value, "timestamp": now, "step": 0} for key, value in metrics.items()]
            self._ask("POST", "runs/log-batch", json={"run_id": run["run_id"], "metrics": measured})
            source = f"{run['artifact_uri']}/model"
            self._upload(folder, source)
            self._ask("POST", "registered-models/create", json={"name": name}, already=True)
            version = {"name": name, "source": source, "run_id": run["run_id"], "tags": _pairs(tags)}
            made = self._ask("POST", "model-versions/create", json=version)["model_version"]["version"]
            status = "FINISHED"
            return str(made)
        finally:
            ended = {"run_id": run["run_id"], "status": status, "end_time": int(time.time() * 1000)}
            try:
                self._ask("POST", "runs/update", json=ended)
            except MachineError:
                if status == "FINISHED":
                    raise

    def _start_run(self, experiment: str, tags: Mapping[str, str]) -> dict[str, Any]:
        self._ask("POST", "experiments/create", json={"name": experiment}, already=True)
        found = self._ask("GET", "experiments/get-by-name", params={"experiment_name": experiment})["experiment"]
        start = {"experiment_id": found["experiment_id"], "start_time": int(time.time() * 1000), "tags": _pairs(tags)}
        return self._ask("POST", "runs/create", json=start)["run"]["info"]

    def _upload(self, folder: str, target: str) -> None:
        for name in checksums.files(folder):
            file = f"{folder}/{name}"
            if target.startswith(_ARTIFACTS):
                path = f"{target.removeprefix(_ARTIFACTS).lstrip('/')}/{name}"
                with atomic_io.open_file(file, "rb") as content:
                    self._send("PUT", f"mlflow-artifacts/artifacts/{path}", data=_blocks(content))
            else:  # the server's clients write to the storage themselves
                place = f"{target.removeprefix('file://')}/{name}"
                storage.make_folder(place.rpartition("/")[0])
                storage.copy(file, place)

    def _ask(self, method: str, path: str, already: bool = False, **content: Any) -> dict[str, Any]:
        """Sends a request and returns its JSON answer; with `already`, it is no error if the object exists."""
        answer = self._send(method, f"mlflow/{path}", already, **content)
        try:
            return dict(answer.json())
        except ValueError as error:
            raise MachineError(f"mlflow.tracking_uri is {self._uri}, which does not answer as MLflow does") from error

    def _send(self, method: str, path: str, already: bool = False, **content: Any) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._uri}/api/2.0/{path}", timeout=_SECONDS, **content)
        except requests.RequestException as error:
            raise MachineError(
                f"mlflow.tracking_uri is {self._uri}, which cannot be reached ({type(error).__name__}); the model is "
                "pushed, but not registered: run again when the server answers"
            ) from error
        if not answer.ok and not (already and "RESOURCE_ALREADY_EXISTS" in answer.text):
            said = " ".join(answer.text.split())[:300] or answer.reason
            login = "; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, say who asks"
            raise MachineError(
                f"MLflow at {self._uri} refuses {path} ({answer.status_code}: {said}); the model is pushed, but not "
                f"registered: run again{login if answer.status_code in (401, 403) else ''}"
            )
        return answer


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _portions(items: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    every = list(items)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(2**20):
        yield block
