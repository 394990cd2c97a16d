"""Executes an Argo workflow as Kubeflow Pipelines v1 would: each container a process, a real metadata service."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.ports.containers import Node, run_graph
from tests.ports.metadata_service import metadata_service

_PARAMETER = re.compile(r"\{\{(?:(?:inputs|workflow)\.parameters\.)?([^}]+)\}\}")
_METADATA_CONFIG_MAP = "metadata-grpc-configmap"


def run_workflow(file: Path, folder: Path, database: Path, parameters: Mapping[str, str], node: Node) -> list[str]:
    """Runs a workflow to its end.

    Args:
        file: the compiled workflow.
        folder: gets a folder for each container.
        database: SQLite file of ML Metadata.
        parameters: override the workflow's own.
        node: runs the containers.

    Returns:
        The names of its steps, in the order in which they ended; the exit handler comes last, whatever became of them.
    """
    workflow = yaml.safe_load(file.read_text())
    given = {p["name"]: p["value"] for p in workflow["spec"]["arguments"]["parameters"] if "value" in p}
    given |= parameters
    missing = {p["name"] for p in workflow["spec"]["arguments"]["parameters"]} - given.keys()
    if missing:
        raise ValueError(f"Argo starts no workflow without its parameters {missing}")
    templates = {template["name"]: template for template in workflow["spec"]["templates"]}
    name = workflow["metadata"]["generateName"] + uuid.uuid4().hex[:5]
    tasks = {task["name"]: task for task in templates[workflow["spec"]["entrypoint"]]["dag"]["tasks"]}

    with metadata_service(database) as port:
        service = {"METADATA_GRPC_SERVICE_HOST": "127.0.0.1", "METADATA_GRPC_SERVICE_PORT": str(port)}
        failures: list[dict[str, str]] = []

        def start(step: str, template: dict[str, Any], values: Mapping[str, str]) -> None:
            container = template["container"]
            home = folder / step
            command = [_substitute(str(part), values) for part in [*container["command"], *container["args"]]]
            collected = [a["path"] for a in template.get("outputs", {}).get("artifacts", [])]
            own = {path: str(home / Path(path).name) for path in collected}  # a container has a file system of its own
            node.run([own.get(part, part) for part in command], home, _environment(container, name, step, service))
            for path in collected:
                assert Path(own[path]).stat().st_size, f"{step} did not write {path}, which Argo collects"

        def run(step: str) -> None:
            passed = tasks[step].get("arguments", {}).get("parameters", [])
            values = {p["name"]: _substitute(p["value"], given) for p in passed}
            try:
                start(step, templates[tasks[step]["template"]], {**values, "workflow.name": name})
            except RuntimeError:
                failures.append({"displayName": step, "message": "Error (exit code 1)", "phase": "Failed"})
                raise

        def end() -> None:
            known = {"workflow.name": name, "workflow.status": "Failed" if failures else "Succeeded"}
            quoted = {"workflow.failures": json.dumps(json.dumps(failures))}  # as Argo's strconv.Quote does
            start(workflow["spec"]["onExit"], templates[workflow["spec"]["onExit"]], {**given, **known, **quoted})

        try:
            done = run_graph({n: set(task.get("dependencies", [])) for n, task in tasks.items()}, run)
        finally:
            end()
        return [*done, workflow["spec"]["onExit"]]


def _substitute(text: str, values: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda match: values[match.group(1)], text)


def _environment(container: dict[str, Any], workflow: str, step: str, service: Mapping[str, str]) -> dict[str, str]:
    """What Kubernetes would set: fields of the pod, and the config map of the metadata service."""
    pod = {"metadata.labels['workflows.argoproj.io/workflow']": workflow, "metadata.name": f"{workflow}-{step}"}
    variables = {}
    for entry in container["env"]:
        if "value" in entry:
            variables[entry["name"]] = entry["value"]
            continue
        path = entry["valueFrom"]["fieldRef"]["fieldPath"]
        variables[entry["name"]] = pod.get(path, "")
    maps = [source["configMapRef"]["name"] for source in container["envFrom"]]
    assert maps == [_METADATA_CONFIG_MAP]
    return variables | service
