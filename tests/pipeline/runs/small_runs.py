"""A pipeline of small stages with the resolvers of the real one, in real ML Metadata and with TFX's cache."""

import copy
from pathlib import Path

from ml_metadata.metadata_store import MetadataStore
from tfx.dsl.compiler.compiler import Compiler
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Model, ModelBlessing, PushedModel

from core.artifacts.blessing import BASELINE_MODEL_ID, BLESSED, CURRENT_MODEL_ID
from core.artifacts.executions import EXECUTION, execution_key
from core.checksums import write_checksums
from pipeline.deployment import Resolvers
from pipeline.runners.single_node import SingleNodeRunner
from pipeline.runs.lineage import NodeRun, node_runs
from pipeline.runs.metadata import connect, connection_config
from pipeline.runs.run_dir import ARTIFACTS

NAME = "small"
CONFIG, CODE = "{}", "1"
SIZE = 100_000  # bytes of every artifact


@component
def Data(  # noqa: N802
    day: Parameter[str], examples: OutputArtifact[Examples], statistics: OutputArtifact[ExampleStatistics]
) -> None:
    for artifact in (examples, statistics):
        Path(artifact.uri, day).write_bytes(bytes(SIZE))


@component
def Gate(  # noqa: N802
    statistics: InputArtifact[ExampleStatistics],
    verdict: OutputArtifact[Model],
    baseline: InputArtifact[ExampleStatistics] = None,
) -> None:
    Path(verdict.uri, "verdict").write_text(baseline.uri if baseline else "none")


@component
def Extractor(  # noqa: N802
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[Examples],
    backbone: InputArtifact[Examples],
    features: OutputArtifact[Examples],
    earlier: InputArtifact[list[Examples]] = None,
) -> None:
    del earlier
    Path(features.uri, "features").write_bytes(bytes(SIZE))
    features.set_string_custom_property(EXECUTION, execution_key([CONFIG, CODE], [examples, transform_graph, backbone]))


@component
def Train(features: InputArtifact[Examples], steps: Parameter[int], model: OutputArtifact[Model]) -> None:  # noqa: N802
    Path(model.uri, str(steps)).write_bytes(bytes(SIZE))


@component
def Judge(  # noqa: N802
    model: InputArtifact[Model],
    blessed: Parameter[int],
    blessing: OutputArtifact[ModelBlessing],
    baseline: InputArtifact[Model] = None,
) -> None:
    blessing.set_int_custom_property(BLESSED, blessed)
    blessing.set_int_custom_property(CURRENT_MODEL_ID, model.id)
    if baseline:
        blessing.set_int_custom_property(BASELINE_MODEL_ID, baseline.id)


@component
def Push(  # noqa: N802
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    directory: Parameter[str],
    pushed: OutputArtifact[PushedModel],
) -> None:
    if blessing.get_int_custom_property(BLESSED):
        version = Path(directory, Path(pushed.uri).name)
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
        write_checksums(str(version))
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(version))


def run(folder: Path, number: int, day: str, steps: int, blessed: bool = True) -> dict[str, NodeRun]:
    """One more run; returns its stages."""
    folder.mkdir(parents=True, exist_ok=True)
    resolvers = Resolvers()
    data = Data(day=day)
    examples, statistics = data.outputs["examples"], data.outputs["statistics"]
    data_baseline = resolvers.data_baseline(statistics)
    gate = Gate(statistics=statistics, baseline=data_baseline.outputs["baseline"])
    inputs = {"examples": examples, "transform_graph": examples, "backbone": examples}
    earlier = resolvers.earlier_features(CONFIG, CODE, **inputs)
    extractor = Extractor(**inputs, earlier=earlier.outputs["features"])
    train = Train(features=extractor.outputs["features"], steps=steps)
    model = train.outputs["model"]
    baseline = resolvers.baseline(model)
    judge = Judge(model=model, baseline=baseline.outputs["model"], blessed=int(blessed))
    push = Push(model=model, blessing=judge.outputs["blessing"], directory=str(folder / "serving"))
    nodes = [data, data_baseline, gate, earlier, extractor, train, baseline, judge, push]
    pipeline = Pipeline(
        NAME,
        str(folder / ARTIFACTS),
        components=nodes,
        enable_cache=True,
        metadata_connection_config=connection_config(folder, None),
    )
    compiled = Compiler().compile(pipeline)
    for node in nodes:
        SingleNodeRunner(node.id, f"run-{number}").run_with_ir(copy.deepcopy(compiled))
    return node_runs(store(folder), f"run-{number}")


def store(folder: Path) -> MetadataStore:
    return connect(folder, None)
