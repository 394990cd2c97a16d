"""The compiled specs really run: every container's command, from images to a pushed model, on both targets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf import json_format
from ml_metadata.metadata_store import MetadataStore
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from core.artifacts.verdict import VERDICT, Verdict
from core.settings import loading
from pipeline.pipeline import push_to, train_args
from pipeline.runners.kubeflow import compile_pipeline
from pipeline.runs import lineage
from tests.conftest import ROOT
from tests.fork_server import ForkServer
from tests.ports.argo import run_workflow
from tests.ports.containers import Node
from tests.ports.few_digits import write_few_digits
from tests.ports.vertex import Vertex

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]

IMAGES_PER_CLASS = 30
SMALL = [
    "backbone.weights=random",
    "head.hidden_units=[]",
    "training.steps=80",
    "training.eval_every=40",
    "training.learning_rate=1e-3",
    "evaluation.slices=[label]",
    "evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}}",
    "evaluation.per_slice={}",
    "serving.timeout_seconds=1800",  # a machine that runs all this at once is slow
]
IMPOSSIBLE = "evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}, cross_entropy: {max: 1.0e-6}}"


class Argo(NamedTuple):
    """What the workflow left."""

    steps: list[str]
    nodes: dict[str, lineage.NodeRun]
    pushed: list[Path]


class VertexRuns(NamedTuple):
    """What a run left that pushed, and one after it, with a bound that no model reaches and more steps."""

    first: dict[str, int]
    pushed: list[Path]
    executed: list[str]
    cached: list[str]
    verdict: Verdict
    pushed_then: list[Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_few_digits(tmp_path_factory.mktemp("digits") / "some", IMAGES_PER_CLASS)


def compile_for(target: str, file: Path, *overrides: str) -> Path:
    loaded = loading.load(ROOT / "configs" / "digits.yaml", [*SMALL, *overrides])
    compile_pipeline(loaded, target, file)
    return file


def places(images: Path, push: Path) -> dict[str, str]:
    return {"data-root": str(images), "push-destination": json_format.MessageToJson(push_to(str(push)))}


def versions(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/saved_model.pb"))


def run_argo(folder: Path, images: Path, node: Node) -> Argo:
    workflow = compile_for("cluster", folder / "workflow.yaml")
    parameters = places(images, folder / "serving") | {"pipeline-root": str(folder / "root")}
    steps = run_workflow(workflow, folder / "containers", folder / "metadata.sqlite", parameters, node)
    store = MetadataStore(sqlite_metadata_connection_config(str(folder / "metadata.sqlite")))
    run_id = lineage.latest_run_id(store, "digits")
    return Argo(steps, lineage.node_runs(store, run_id), versions(folder / "serving"))


def run_vertex(folder: Path, images: Path, node: Node) -> VertexRuns:
    vertex = Vertex(folder / "containers", node)
    parameters = places(images, folder / "serving")
    vertex.run(compile_for("vertex", folder / "spec.yaml"), folder / "root", parameters)
    first = {name: len(outputs) for name, outputs in vertex.outputs.items()}
    pushed = versions(folder / "serving")
    more = {"train-args": json_format.MessageToJson(train_args(81), preserving_proto_field_name=True)}
    vertex.run(compile_for("vertex", folder / "strict.yaml", IMPOSSIBLE), folder / "root", parameters | more)
    (blessing,) = vertex.outputs["ModelGate"]["blessing"]
    verdict = VERDICT.read(blessing.uri)
    return VertexRuns(first, pushed, vertex.executed, vertex.cached, verdict, versions(folder / "serving"))


@pytest.fixture(scope="module")
def runs(forks: ForkServer, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future]]:
    """Both targets at the same time: most stages wait for the one before, and importing TFX takes one core."""
    node = Node(forks)
    with ThreadPoolExecutor(2) as pool:
        yield {
            "argo": pool.submit(run_argo, tmp_path_factory.mktemp("argo"), images, node),
            "vertex": pool.submit(run_vertex, tmp_path_factory.mktemp("vertex"), images, node),
        }


def test_the_argo_workflow_runs_from_images_to_a_pushed_model(runs: dict[str, Future]) -> None:
    argo: Argo = runs["argo"].result()
    assert set(argo.steps) == {name.lower() for name in argo.nodes}
    assert {node.state for node in argo.nodes.values()} == {"complete"}
    (pushed,) = argo.pushed
    (model,) = argo.nodes["Pusher"].outputs["pushed_model"]
    assert model.properties["pushed"] == 1 and model.properties["pushed_destination"] == str(pushed.parent)


def test_the_vertex_spec_runs_from_images_to_a_pushed_model(runs: dict[str, Future]) -> None:
    vertex: VertexRuns = runs["vertex"].result()
    assert len(vertex.pushed) == 1
    assert vertex.first["Pusher"] == 1


def test_on_vertex_a_later_run_reuses_what_has_not_changed(runs: dict[str, Future]) -> None:
    vertex: VertexRuns = runs["vertex"].result()
    assert {"ImageExampleGen", "Transform", "FeatureExtractor"} <= set(vertex.cached)
    assert {"Trainer", "Evaluator", "ModelGate", "Pusher"} <= set(vertex.executed)


def test_on_vertex_a_model_is_judged_against_the_last_blessed_one_and_not_pushed_if_refused(
    runs: dict[str, Future],
) -> None:
    vertex: VertexRuns = runs["vertex"].result()
    assert vertex.verdict.overall.baseline is not None
    assert [failure.metric for failure in vertex.verdict.failures] == ["cross_entropy"]
    assert vertex.pushed_then == vertex.pushed


def test_the_current_kfp_sdk_loads_the_vertex_spec(tmp_path: Path) -> None:
    spec = compile_for("vertex", tmp_path / "spec.yaml")
    uv = next((path for path in (ROOT / ".venv-uv/bin/uv", shutil.which("uv")) if path and Path(path).exists()), None)
    if uv is None:
        pytest.skip("no uv: .venv-uv is made by `make setup`")
    program = (
        "from kfp import __version__, components\n"
        f"loaded = components.load_component_from_file({str(spec)!r})\n"
        "print(__version__, loaded.name, *loaded.component_spec.inputs)\n"
    )
    command = [uv, "run", "--no-project", "--isolated", "--python", sys.executable, "--with", "kfp>=2.14,<3"]
    done = subprocess.run(
        [*command, "python", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if done.returncode and ("error sending request" in done.stderr or "offline" in done.stderr):
        pytest.skip(f"kfp cannot be installed: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    version, name, *inputs = done.stdout.split()
    assert version.startswith("2.") and name == "digits"
    assert set(inputs) == {"data-root", "push-destination", "train-args"}
