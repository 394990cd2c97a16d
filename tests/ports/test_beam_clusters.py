"""The pipeline runs whole on real Flink and Spark clusters, with the results of the in-memory runner."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from core.artifacts.nodes import NEVER_CACHED, RESOLVERS
from tests.ports import clusters
from tests.ports.namespace import may_unshare, run_alone
from tests.ports.written import COMPONENTS, check_equal

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=["flink", "spark"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.ports.on_cluster` found."""
    if not may_unshare():
        pytest.skip("Beam's servers listen on all interfaces, and this user may not make a network of its own")
    try:
        clusters.obtain(request.param)
    except clusters.UnavailableError as error:
        _lacking(str(error))
    work = tmp_path_factory.mktemp(request.param)
    run_alone("tests.ports.on_cluster", [request.param, str(work), str(work / "result.json")], work / "log")
    return {"engine": request.param, **json.loads((work / "result.json").read_text())}


def _lacking(what: str) -> None:
    """Skips, but not where everything is to be there."""
    if os.environ.get("CLUSTERS") == "required":  # by .ci/run
        pytest.fail(what)
    pytest.skip(what)


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_results_equal_the_in_memory_runners(found: dict[str, Any], component: str) -> None:
    made = found["components"]
    check_equal(made[found["engine"]][component], made["in memory"][component])


def test_the_pipeline_goes_to_a_pushed_model_and_is_cached_to_its_end(found: dict[str, Any]) -> None:
    first, second, _ = found["runs"]
    assert first["code"] == 0, first["screen"]
    assert first["record"]["status"] == "pushed" and first["record"]["images"]["read"] == 200
    assert not any(stage["cached"] for stage in first["record"]["stages"])
    assert second["code"] == 0, second["screen"]
    computed = {stage["id"] for stage in second["record"]["stages"] if not stage["cached"]}
    assert computed == NEVER_CACHED | (RESOLVERS & {stage["id"] for stage in second["record"]["stages"]})
    assert second["record"]["metrics"] == first["record"]["metrics"]


def test_the_model_is_the_one_that_is_made_in_memory(found: dict[str, Any]) -> None:
    first, _, in_memory = (run["record"] for run in found["runs"])
    assert first["metrics"] == in_memory["metrics"]  # to the last bit


FAULTS = {
    "flink": {
        "the job server is killed": "the job server ended in the middle of the job",
        "more slots than there are": "runtime.beam.parallelism",
        "workers without our package": "the cluster's workers do not have this project",
        "the worker pool is killed": "runtime.beam.worker_pool",
        "the JobManager is killed": "runtime.beam.flink_master",
        "no JobManager": "runtime.beam.flink_master",
    },
    "spark": {
        "the job server is killed": "the job server ended in the middle of the job",
        "more memory than there is": "spark.executor.memory",
        "the worker pool is killed": "runtime.beam.worker_pool",
    },
}
"""What is done to a cluster, and what is said of it."""
RECOVERED = ("nothing", "a TaskManager is killed", "a worker is killed", "afterwards")


def test_what_is_lost_in_the_middle_of_a_job_is_made_good_or_told(found: dict[str, Any]) -> None:
    told = FAULTS[found["engine"]]
    assert {*found["faults"]} - {*RECOVERED} == {*told}
    for fault, ended in found["faults"].items():
        if fault in RECOVERED:
            assert (ended["code"], ended["records"]) == (0, 200), (fault, ended)
        else:
            assert ended["code"] == (2 if "package" in fault else 4), (fault, ended)
            assert told[fault] in ended["said"], (fault, ended)
            assert "Logs: " in ended["said"] or fault == "no JobManager", (fault, ended)  # which has none to look into
            assert ended["records"] is None, fault  # nothing that is half written has the name of what is whole
            assert ended["seconds"] < 120, (fault, ended)  # the minute, on a machine that runs other tests, too


def test_a_worker_pool_with_other_code_refuses_the_job(found: dict[str, Any]) -> None:
    assert "the worker pool has another version of this project than the pipeline" in found["refusal"]
