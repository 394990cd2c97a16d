"""The compiled specs really run: every container's command, from images to a pushed model, on both targets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import json_format
from ml_metadata.metadata_store import MetadataStore
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from core.artifacts.heartbeat import HEARTBEAT
from core.artifacts.last_run import LAST_RUN, Outcome
from core.artifacts.verdict import VERDICT, Verdict
from core.settings import loading
from pipeline.pipeline import push_to, train_args
from pipeline.runners.kubeflow import compile_pipeline
from pipeline.runs import history, lineage
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
    "notify='cat >> $TOLD'",
]
IMPOSSIBLE = "evaluation.thresholds={accuracy: {min: 0.1, max_drop: 1.0}, cross_entropy: {max: 1.0e-6}}"


class Argo(NamedTuple):
    """What the workflow left, and the outcome that its exit handler notified of."""

    steps: list[str]
    nodes: dict[str, lineage.NodeRun]
    pushed: list[Path]
    root: Path
    told: dict[str, Any]
    recorded: history.Run


class VertexRuns(NamedTuple):
    """What a run left that pushed, and one after it, with a bound that no model reaches and more steps."""

    first: dict[str, int]
    pushed: list[Path]
    executed: list[str]
    cached: list[str]
    verdict: Verdict
    pushed_then: list[Path]
    root: Path
    told: list[dict[str, Any]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_few_digits(tmp_path_factory.mktemp("digits") / "some", IMAGES_PER_CLASS)


def compile_for(target: str, file: Path, *overrides: str) -> Path:
    told = f"kubeflow.environment={{ExitHandler: {{TOLD: '{file.parent / 'told.jsonl'}'}}}}"
    loaded = loading.load(ROOT / "configs" / "digits.yaml", [*SMALL, told, *overrides])
    compile_pipeline(loaded, target, file)
    return file


def places(images: Path, push: Path) -> dict[str, str]:
    return {"data-root": str(images), "push-destination": json_format.MessageToJson(push_to(str(push)))}


def versions(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/saved_model.pb"))


def told_in(folder: Path) -> list[dict[str, Any]]:
    """What the command of `notify` was given, a run after the other."""
    decoder, text, found = json.JSONDecoder(), (folder / "told.jsonl").read_text(), []
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def run_argo(folder: Path, images: Path, node: Node) -> Argo:
    workflow = compile_for("cluster", folder / "workflow.yaml")
    parameters = places(images, folder / "serving") | {"pipeline-root": str(folder / "root")}
    steps = run_workflow(workflow, folder / "containers", folder / "metadata.sqlite", parameters, node)
    store = MetadataStore(sqlite_metadata_connection_config(str(folder / "metadata.sqlite")))
    run_id = lineage.latest_run_id(store, "digits")
    (told,) = told_in(folder)
    (recorded,) = history.all_runs(store, "digits")
    return Argo(steps, lineage.node_runs(store, run_id), versions(folder / "serving"), folder / "root", told, recorded)


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
    then, told = versions(folder / "serving"), told_in(folder)
    return VertexRuns(first, pushed, vertex.executed, vertex.cached, verdict, then, folder / "root", told)


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
    assert {*argo.steps} == {*(name.lower() for name in argo.nodes), "exit-handler"}
    assert {node.state for node in argo.nodes.values()} == {"complete"}
    (pushed,) = argo.pushed
    (model,) = argo.nodes["Pusher"].outputs["pushed_model"]
    assert model.properties["pushed"] == 1 and model.properties["pushed_destination"] == str(pushed.parent)


def test_at_the_end_of_an_argo_workflow_its_outcome_is_recorded_and_told(runs: dict[str, Future]) -> None:
    argo: Argo = runs["argo"].result()
    last = LAST_RUN.read(argo.root)
    assert (last.status, last.exit_code, last.pushed_model) == ("pushed", 0, str(argo.pushed[0].parent))
    assert (argo.told["pipeline"], argo.told["status"], argo.told["run_id"]) == ("digits", "pushed", last.run_id)
    assert last.images and last.images.read == 10 * IMAGES_PER_CLASS and last.metrics["accuracy"].overall
    assert argo.recorded.status == "pushed" and argo.recorded.seconds == last.seconds > 0
    followed(argo.root, last, {*argo.nodes})


def followed(root: Path, last: Outcome, stages: set[str]) -> None:
    """Whether the files that monitoring reads know the run, its stages and how far they got."""
    beat = HEARTBEAT.read(root)
    assert (beat.run, beat.status, set(beat.stages)) == (last.run_id, last.status, stages)
    assert {stage.state for stage in beat.stages.values()} == {"ended"} and beat.last_success
    assert beat.stages["Trainer"].unit == "steps" and {one.id for one in last.stages} == stages
    assert f'status="{last.status}"}} 1.0' in (root / "digits.prom").read_text()
    assert not any((root / ".running").iterdir())


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


def test_on_vertex_the_exit_handler_tells_of_a_push_and_of_a_refusal(runs: dict[str, Future]) -> None:
    vertex: VertexRuns = runs["vertex"].result()
    first, then = vertex.told
    assert (first["status"], first["pushed_model"]) == ("pushed", str(vertex.pushed[0].parent))
    assert first["images"]["read"] == 10 * IMAGES_PER_CLASS and first["metrics"]["accuracy"]["overall"]
    last = LAST_RUN.read(vertex.root)
    assert (then["status"], last.status, last.exit_code) == ("refused", "refused", 3)
    assert [failure.metric for failure in last.failures] == ["cross_entropy"]
    assert last.metrics["accuracy"].overall and last.images is None  # of a stage that the service took from its cache
    assert HEARTBEAT.read(vertex.root).last_success
    assert not any((vertex.root / ".running").iterdir())


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
