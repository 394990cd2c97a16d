"""Components run one by one, as in Airflow's tasks; needs no Airflow."""

from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from tfx.components import StatisticsGen
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.orchestration.data_types import DriverArgs, PipelineInfo
from tfx.orchestration.metadata import Metadata, sqlite_metadata_connection_config
from tfx.types import Artifact, Channel
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from pipeline.runners.airflow_launcher import AirflowLauncher

Launch = Callable[..., dict[str, list[Artifact]]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Runs a component in a run; returns its outputs."""

    def run(node: BaseNode, run_id: str, cache: bool = False) -> dict[str, list[Artifact]]:
        return AirflowLauncher.create(
            component=node,
            pipeline_info=PipelineInfo("p", str(tmp_path / "root"), run_id),
            driver_args=DriverArgs(enable_cache=cache),
            metadata_connection=Metadata(sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))),
            beam_pipeline_args=[],
            additional_pipeline_args={},
        ).launch().output_dict  # fmt: skip

    return run


@component
def MakeModel(  # noqa: N802
    model: OutputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    name: Parameter[str],
    fails_while: Parameter[str] = "",
) -> None:
    Path(model.uri, f"half of {name}").touch()
    if fails_while and Path(fails_while).exists():
        Path(fails_while).unlink()
        Path(model.uri, "left by the failed try").touch()
        raise RuntimeError("the first try fails")
    model.set_string_custom_property("name", name)
    blessing.set_int_custom_property("blessed", 1)


@component
def ReadModel(  # noqa: N802
    model: InputArtifact[Model], blessing: InputArtifact[ModelBlessing], copy: OutputArtifact[Model]
) -> None:
    assert blessing.get_int_custom_property("blessed") == 1
    copy.set_string_custom_property("name", model.get_string_custom_property("name"))


class AllButTheCandidate(ResolverStrategy):
    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        return input_dict | {"model": [model for model in input_dict["model"] if model.id not in candidates]}


def names(models: list[Artifact]) -> list[str]:
    return [model.get_string_custom_property("name") for model in models]


def test_a_second_try_leaves_one_output_without_what_the_first_wrote(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a", fails_while=str(tmp_path / "fault"))
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(maker, "run-1")
    (model,) = launch(maker, "run-1")["model"]
    assert [path.name for path in Path(model.uri).iterdir()] == ["half of a"]
    assert names(launch(reader, "run-1")["copy"]) == ["a"]


@component
def CopyModel(  # noqa: N802
    model: InputArtifact[Model], copy: OutputArtifact[Model], fails_while: Parameter[str]
) -> None:
    if Path(fails_while).exists():
        Path(fails_while).unlink()
        raise RuntimeError("the first try fails")
    copy.set_string_custom_property("name", model.get_string_custom_property("name"))


@pytest.mark.parametrize("cache", [True, False])
def test_a_component_with_inputs_can_be_tried_again(launch: Launch, tmp_path: Path, cache: bool) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a")
    copier = CopyModel(model=maker.outputs["model"], fails_while=str(tmp_path / "fault"))
    launch(maker, "run-1", cache)
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(copier, "run-1", cache)
    assert names(launch(copier, "run-1", cache)["copy"]) == ["a"]


@pytest.mark.parametrize("cache", [True, False])
def test_a_task_that_was_lost_after_it_had_published_can_be_tried_again(launch: Launch, cache: bool) -> None:
    maker = MakeModel(name="a")
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    others = Resolver(strategy_class=AllButTheCandidate, candidate=maker.outputs["model"], model=Channel(type=Model))
    for node in (maker, reader, others):
        first, again = launch(node, "run-1", cache), launch(node, "run-1", cache)
        assert {key: [a.id for a in artifacts] for key, artifacts in again.items()} == {
            key: [a.id for a in artifacts] for key, artifacts in first.items()
        }
    assert names(launch(reader, "run-1", cache)["copy"]) == ["a"]


def test_a_later_run_reuses_what_a_second_try_made(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a", fails_while=str(tmp_path / "fault"))
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(maker, "run-1", cache=True)
    first = launch(maker, "run-1", cache=True)
    again = launch(maker, "run-2", cache=True)
    assert {key: [a.id for a in artifacts] for key, artifacts in again.items()} == {
        key: [a.id for a in artifacts] for key, artifacts in first.items()
    }
    assert {key: [a.type_name for a in artifacts] for key, artifacts in again.items()} == {
        "model": ["Model"],
        "blessing": ["ModelBlessing"],
    }
    assert names(launch(reader, "run-2", cache=True)["copy"]) == ["a"]


def test_two_components_may_have_outputs_of_the_same_name_and_type(launch: Launch) -> None:
    first, second = MakeModel(name="a").with_id("First"), MakeModel(name="b").with_id("Second")
    assert names(launch(first, "run-1")["model"] + launch(second, "run-1")["model"]) == ["a", "b"]


def test_a_resolver_sees_this_runs_candidate_and_other_runs_models(launch: Launch) -> None:
    launch(MakeModel(name="a"), "run-1")
    maker = MakeModel(name="b")
    others = Resolver(strategy_class=AllButTheCandidate, candidate=maker.outputs["model"], model=Channel(type=Model))
    launch(maker, "run-2")
    resolved = launch(others, "run-2")
    assert names(resolved["candidate"]) == ["b"]
    assert names(resolved["model"]) == ["a"]


def test_the_beam_options_of_a_component_reach_its_executor(tmp_path: Path) -> None:
    step = StatisticsGen(examples=Channel(type=Examples))
    step.with_beam_pipeline_args(["--runner=DirectRunner", "--direct_num_workers=3", "--sdk_container_image=i"])
    launcher = AirflowLauncher.create(
        component=step,
        pipeline_info=PipelineInfo("p", str(tmp_path), "run-1"),
        driver_args=DriverArgs(),
        metadata_connection=Metadata(sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))),
        beam_pipeline_args=[],
        additional_pipeline_args={},
    )
    assert PipelineOptions(launcher._beam_pipeline_args).get_all_options()["direct_num_workers"] == 3
