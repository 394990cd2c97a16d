"""Nodes run one by one, as in Airflow's tasks; needs no Airflow."""

from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.components import StatisticsGen
from tfx.components.statistics_gen.executor import Executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import outputs_utils
from tfx.orchestration.portable.launcher import Launcher
from tfx.types import Artifact, Channel
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from pipeline.runners.single_node import SingleNodeRunner
from pipeline.runs.lineage import Output, node_runs

Outputs = dict[str, list[Output]]
Launch = Callable[..., Outputs]


@pytest.fixture
def store(tmp_path: Path) -> MetadataStore:
    return MetadataStore(sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")))


@pytest.fixture
def launch(tmp_path: Path, store: MetadataStore) -> Launch:
    """Runs one of some nodes, by default the last, in a run of a pipeline of these; returns its outputs."""

    def run(*nodes: BaseNode, node: BaseNode | None = None, run_id: str = "run-1", cache: bool = False) -> Outputs:
        node = node or nodes[-1]
        pipeline = Pipeline(
            "p",
            str(tmp_path / "root"),
            components=list(nodes),
            enable_cache=cache,
            metadata_connection_config=sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite")),
        )
        SingleNodeRunner(node.id, run_id).run(pipeline)
        return node_runs(store, run_id)[node.id].outputs

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


def names(models: list[Output]) -> list[object]:
    return [model.properties["name"] for model in models]


def ids(outputs: Outputs) -> dict[str, list[int]]:
    return {key: [artifact.id for artifact in artifacts] for key, artifacts in outputs.items()}


def test_a_second_try_leaves_one_output_without_what_the_first_wrote(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a", fails_while=str(tmp_path / "fault"))
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(maker, reader, node=maker)
    (model,) = launch(maker, reader, node=maker)["model"]
    assert [path.name for path in Path(model.uri).iterdir()] == ["half of a"]
    assert names(launch(maker, reader)["copy"]) == ["a"]


def test_a_second_try_leaves_nothing_of_a_first_that_was_killed(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a", fails_while=str(tmp_path / "fault"))
    with monkeypatch.context() as killed:  # a process that is killed tidies nothing up, and publishes nothing
        killed.setattr(outputs_utils, "remove_output_dirs", lambda _: None)
        killed.setattr(Launcher, "_publish_failed_execution", lambda *_: None)
        with pytest.raises(RuntimeError, match="the first try fails"):
            launch(maker)
    (model,) = launch(maker)["model"]
    assert [path.name for path in Path(model.uri).iterdir()] == ["half of a"]


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
    launch(maker, copier, node=maker, cache=cache)
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(maker, copier, cache=cache)
    assert names(launch(maker, copier, cache=cache)["copy"]) == ["a"]


@pytest.mark.parametrize("cache", [True, False])
def test_a_task_that_was_lost_after_it_had_published_can_be_tried_again(
    launch: Launch, store: MetadataStore, cache: bool
) -> None:
    maker = MakeModel(name="a")
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    others = Resolver(strategy_class=AllButTheCandidate, candidate=maker.outputs["model"], model=Channel(type=Model))
    nodes = (maker, reader, others.with_id("Others"))
    for count, node in enumerate(nodes, 1):
        assert ids(launch(*nodes, node=node, cache=cache)) == ids(launch(*nodes, node=node, cache=cache))
        assert len(store.get_executions()) == count
    assert names(launch(*nodes, node=reader, cache=cache)["copy"]) == ["a"]


def test_a_later_run_reuses_what_a_second_try_made(launch: Launch, store: MetadataStore, tmp_path: Path) -> None:
    (tmp_path / "fault").touch()
    maker = MakeModel(name="a", fails_while=str(tmp_path / "fault"))
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    with pytest.raises(RuntimeError, match="the first try fails"):
        launch(maker, reader, node=maker, cache=True)
    first = launch(maker, reader, node=maker, cache=True)
    again = launch(maker, reader, node=maker, run_id="run-2", cache=True)
    assert ids(again) == ids(first)
    made = {key: [a.type for a in store.get_artifacts_by_id(numbers)] for key, numbers in ids(again).items()}
    assert made == {"model": ["Model"], "blessing": ["ModelBlessing"]}
    assert names(launch(maker, reader, run_id="run-2", cache=True)["copy"]) == ["a"]


def test_two_components_may_have_outputs_of_the_same_name_and_type(launch: Launch) -> None:
    first, second = MakeModel(name="a").with_id("First"), MakeModel(name="b").with_id("Second")
    assert names(launch(first, second, node=first)["model"] + launch(first, second)["model"]) == ["a", "b"]


def test_a_resolver_sees_this_runs_candidate_and_other_runs_models(launch: Launch, store: MetadataStore) -> None:
    launch(MakeModel(name="a"))
    maker = MakeModel(name="b")
    others = Resolver(strategy_class=AllButTheCandidate, candidate=maker.outputs["model"], model=Channel(type=Model))
    nodes = (maker, others.with_id("Others"))
    launch(*nodes, node=maker, run_id="run-2")
    launch(*nodes, run_id="run-2")
    execution = node_runs(store, "run-2")["Others"].execution
    events = store.get_events_by_execution_ids([execution])
    made = {e.path.steps[0].key: e.artifact_id for e in events if e.type == metadata_store_pb2.Event.INTERNAL_OUTPUT}
    artifacts = {a.id: a.custom_properties["name"].string_value for a in store.get_artifacts_by_id(made.values())}
    resolved = {key: artifacts[number] for key, number in made.items()}
    assert resolved == {"candidate": "b", "model": "a"}


def test_a_node_whose_inputs_are_not_there_fails(launch: Launch) -> None:
    maker = MakeModel(name="a")
    reader = ReadModel(model=maker.outputs["model"], blessing=maker.outputs["blessing"])
    with pytest.raises(RuntimeError, match="the inputs of ReadModel could not be resolved"):
        launch(maker, reader)


@component
def MakeExamples(examples: OutputArtifact[Examples]) -> None:  # noqa: N802
    Path(examples.uri, "none").touch()


def test_the_beam_options_of_a_component_reach_its_executor(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    def note_options(executor: Executor, *_: object) -> None:
        workers.append(PipelineOptions(executor._beam_pipeline_args).get_all_options()["direct_num_workers"])

    workers: list[int] = []
    monkeypatch.setattr(Executor, "Do", note_options)
    maker = MakeExamples()
    step = StatisticsGen(examples=maker.outputs["examples"])
    step.with_beam_pipeline_args(["--runner=DirectRunner", "--direct_num_workers=3", "--sdk_container_image=i"])
    launch(maker, step, node=maker)
    launch(maker, step)
    assert workers == [3]
