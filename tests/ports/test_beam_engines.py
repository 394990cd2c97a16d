"""The Beam components give the same results on the portability API that Flink and Spark use as in memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pipeline.runners.beam_engines import SMALL_STEPS
from tests.conftest import ROOT

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]
COMPONENTS = [
    "ImageExampleGen",
    "StatisticsGen",
    "Transform",
    "FeatureExtractor",
    "Predictor",
    "Evaluator",
    "batch-predict",
]


def _own_network() -> list[str]:
    """A command's beginning that gives it a network of its own: Beam's servers listen on all interfaces."""
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def _may_unshare() -> bool:
    try:
        return subprocess.run([*_own_network(), "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every engine made of the same inputs: engine -> component -> what it wrote."""
    if not _may_unshare():
        pytest.skip("Beam's servers listen on all interfaces, and this user may not make a network of its own")
    work = tmp_path_factory.mktemp("beam")
    command = [sys.executable, "-m", "tests.ports.beam_components", str(work), str(work / "result.json")]
    with (work / "log").open("w") as log:
        run = subprocess.Popen(
            [*_own_network(), *command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            run.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)  # its servers, should it have been stopped before they were
    assert run.returncode == 0, (work / "log").read_text()[-6000:]
    return json.loads((work / "result.json").read_text())


def test_every_beam_component_of_the_pipeline_ran(results: dict[str, Any]) -> None:
    assert list(results) == ["in memory", "local-parallel", "loopback", "external"]
    assert all(list(made) == COMPONENTS for engine, made in results.items() if engine != "local-parallel")
    assert set(results["local-parallel"]) == SMALL_STEPS  # the others run in memory there too
    examples = results["in memory"]["ImageExampleGen"]
    assert sorted(map(len, examples["splits"].values())) == sorted(examples["counts"][s] for s in examples["splits"])
    assert sum(map(len, examples["splits"].values())) == 24 and len(examples["rejects"]) == 1
    assert results["in memory"]["Transform"]["classes"] == ["blue", "green", "red"]
    assert len(results["in memory"]["FeatureExtractor"]["numbers"]) % 2048 == 0
    assert len(results["in memory"]["Evaluator"]["slices"]) > 3
    assert results["in memory"]["batch-predict"]["counts"] == [25, 1]


@pytest.mark.parametrize(
    ("engine", "component"),
    [
        *(("local-parallel", component) for component in sorted(SMALL_STEPS)),
        *((engine, component) for engine in ("loopback", "external") for component in COMPONENTS),
    ],
)
def test_the_results_equal_the_in_memory_runners(results: dict[str, Any], engine: str, component: str) -> None:
    made, expected = results[engine][component], results["in memory"][component]
    keys = set(expected) - {"numbers", "seconds"}
    assert {key: made[key] for key in keys} == {key: expected[key] for key in keys}
    # Features come from batches of other sizes, sums are added in another order: equal but for rounding.
    np.testing.assert_allclose(made.get("numbers", []), expected.get("numbers", []), rtol=2e-4, atol=1e-5)
