"""The Beam components give the same results on the portability API that Flink and Spark use as in memory."""

import json
from typing import Any

import pytest

from pipeline.runners.beam_engines import SMALL_STEPS
from tests.ports.namespace import may_unshare, run_alone
from tests.ports.written import COMPONENTS, check_equal

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]
_SMALL = SMALL_STEPS & {*COMPONENTS}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every engine made of the same inputs: engine -> component -> what it wrote."""
    if not may_unshare():
        pytest.skip("Beam's servers listen on all interfaces, and this user may not make a network of its own")
    work = tmp_path_factory.mktemp("beam")
    run_alone("tests.ports.beam_components", [str(work), str(work / "result.json")], work / "log")
    return json.loads((work / "result.json").read_text())


def test_every_beam_component_of_the_pipeline_ran(results: dict[str, Any]) -> None:
    assert list(results) == ["in memory", "local-parallel", "loopback", "external"]
    assert all(list(made) == COMPONENTS for engine, made in results.items() if engine != "local-parallel")
    assert set(results["local-parallel"]) == _SMALL  # the others run in memory there too
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
        *(("local-parallel", component) for component in sorted(_SMALL)),
        *((engine, component) for engine in ("loopback", "external") for component in COMPONENTS),
    ],
)
def test_the_results_equal_the_in_memory_runners(results: dict[str, Any], engine: str, component: str) -> None:
    check_equal(results[engine][component], results["in memory"][component])
