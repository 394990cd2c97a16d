"""The pipeline runs whole on real Flink and Spark clusters, with the results of the in-memory runner."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.artifacts.nodes import NEVER_CACHED, RESOLVERS
from tests.ports import clusters
from tests.ports.namespace import may_unshare, run_alone
from tests.ports.written import COMPONENTS, check_equal
from tests.shared_folder import shared_folder

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]

RECOVERED = ("nothing", "a TaskManager is killed", "a worker is killed", "afterwards")
"""Faults that end no job."""


def _lacking(what: str) -> None:
    """Skips, but not where everything is to be there."""
    if os.environ.get("CLUSTERS") == "required":  # by .ci/run
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="class")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what is compared with."""

    def fill(folder: Path) -> None:
        run_alone("tests.ports.on_cluster", ["memory", str(folder), str(folder / "result.json")], folder / "log")

    return shared_folder(tmp_path_factory, "in memory", fill)


@pytest.fixture(scope="class")
def in_memory(memory: Path) -> dict[str, Any]:
    """What `tests.ports.on_cluster` found without a cluster."""
    return json.loads((memory / "result.json").read_text())


class OnCluster:
    """What must hold on any; each is a class of its own, so that the workers of a test run share them.

    Attributes:
        engine: its name.
        told: what is done to it, and what is said of that.
    """

    engine: ClassVar[str]
    told: ClassVar[dict[str, str]]

    @pytest.fixture(scope="class")
    def software(self) -> None:
        """What a cluster takes is here."""
        if not may_unshare():
            pytest.skip("Beam's servers listen on all interfaces, and this user may not make a network of its own")
        try:
            clusters.obtain(self.engine)
        except clusters.UnavailableError as error:
            _lacking(str(error))

    @pytest.fixture(scope="class")
    def found(self, software: None, memory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """What `tests.ports.on_cluster` found."""
        work = tmp_path_factory.mktemp(self.engine)
        arguments = [self.engine, str(work), str(work / "result.json"), str(memory)]
        run_alone("tests.ports.on_cluster", arguments, work / "log")
        return json.loads((work / "result.json").read_text())

    @pytest.mark.parametrize("component", COMPONENTS)
    def test_the_results_equal_the_in_memory_runners(
        self, found: dict[str, Any], in_memory: dict[str, Any], component: str
    ) -> None:
        check_equal(found["components"][component], in_memory["components"][component])

    def test_the_pipeline_goes_to_a_pushed_model_and_is_cached_to_its_end(self, found: dict[str, Any]) -> None:
        first, second = found["runs"]
        assert first["code"] == 0, first["screen"]
        assert first["record"]["status"] == "pushed"
        assert (first["record"]["images"]["read"], first["record"]["images"]["rejected"]) == (200, 1)
        assert not any(stage["cached"] for stage in first["record"]["stages"])
        assert second["code"] == 0, second["screen"]
        computed = {stage["id"] for stage in second["record"]["stages"] if not stage["cached"]}
        assert computed == NEVER_CACHED | (RESOLVERS & {stage["id"] for stage in second["record"]["stages"]})
        assert second["record"]["metrics"] == first["record"]["metrics"]

    def test_the_model_is_the_one_that_is_made_in_memory(
        self, found: dict[str, Any], in_memory: dict[str, Any]
    ) -> None:
        here, there = (runs["runs"][0]["record"]["metrics"] for runs in (in_memory, found))
        assert there == here  # to the last bit

    def test_what_is_lost_in_the_middle_of_a_job_is_made_good_or_told(self, found: dict[str, Any]) -> None:
        assert {*found["faults"]} - {*RECOVERED} == {*self.told}
        for fault, ended in found["faults"].items():
            if fault in RECOVERED:
                assert (ended["code"], ended["records"]) == (0, 200), (fault, ended)
            else:
                assert ended["code"] == (2 if "package" in fault else 4), (fault, ended)
                assert self.told[fault] in ended["said"], (fault, ended)
                assert "Logs: " in ended["said"] or fault == "no JobManager", (
                    fault,
                    ended,
                )  # which has none to look at
                assert ended["records"] is None, fault  # nothing that is half written has the name of what is whole
                assert ended["seconds"] < 120, (fault, ended)  # the minute, on a machine that runs other tests, too

    def test_a_worker_pool_with_other_code_refuses_the_job(self, found: dict[str, Any]) -> None:
        assert "the worker pool has another version of this project than the pipeline" in found["refusal"]


class TestFlink(OnCluster):
    engine = "flink"
    told: ClassVar = {
        "the job server is killed": "the job server ended in the middle of the job",
        "more slots than there are": "runtime.beam.parallelism",
        "workers without our package": "the cluster's workers do not have this project",
        "the worker pool is killed": "runtime.beam.worker_pool",
        "the JobManager is killed": "runtime.beam.flink_master",
        "no JobManager": "runtime.beam.flink_master",
    }


class TestSpark(OnCluster):
    engine = "spark"
    told: ClassVar = {
        "the job server is killed": "the job server ended in the middle of the job",
        "more memory than there is": "spark.executor.memory",
        "the worker pool is killed": "runtime.beam.worker_pool",
    }
