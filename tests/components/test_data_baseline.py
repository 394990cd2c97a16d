"""DataBaselineStrategy on a real ML Metadata store, filled as TFX fills it."""

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.types import Artifact
from tfx.types.standard_artifacts import ExampleStatistics, Model, ModelBlessing

from components.data_baseline import DataBaselineStrategy
from core.artifacts.blessing import BLESSED, CURRENT_MODEL_ID


class Runs:
    """A store, in which runs leave statistics, a model and its blessing."""

    def __init__(self) -> None:
        self.store = MetadataStore(pb.ConnectionConfig(sqlite=pb.SqliteMetadataSourceConfig()))
        self._run_type = self.store.put_context_type(pb.ContextType(name="pipeline_run"))
        self._types = {
            kind: self.store.put_artifact_type(kind()._artifact_type)
            for kind in (ExampleStatistics, Model, ModelBlessing)
        }
        self.all: dict[type, list[Artifact]] = {kind: [] for kind in self._types}

    def make(self, kind: type[Artifact]) -> Artifact:
        artifact = kind()
        artifact.type_id = self._types[kind]
        (artifact.id,) = self.store.put_artifacts([artifact.mlmd_artifact])
        self.all[kind].append(artifact)
        return artifact

    def run(self, statistics: Artifact, blessed: bool) -> None:
        model, blessing = self.make(Model), self.make(ModelBlessing)
        blessing.set_int_custom_property(BLESSED, int(blessed))
        blessing.set_int_custom_property(CURRENT_MODEL_ID, model.id)
        name = f"run-{len(self.all[Model])}"
        (context,) = self.store.put_contexts([pb.Context(type_id=self._run_type, name=name)])
        members = [
            pb.Attribution(artifact_id=artifact.id, context_id=context) for artifact in (statistics, model, blessing)
        ]
        self.store.put_attributions_and_associations(members, [])

    def baseline(self, own: Artifact) -> list[int]:
        channels = {
            "statistics": [own],
            "baseline": self.all[ExampleStatistics],
            "model": self.all[Model],
            "model_blessing": self.all[ModelBlessing],
        }
        return [artifact.id for artifact in DataBaselineStrategy().resolve_artifacts(self.store, channels)["baseline"]]


def test_the_data_of_the_last_blessed_model_are_the_baseline() -> None:
    runs = Runs()
    first, refused, third = (runs.make(ExampleStatistics) for _ in range(3))
    assert runs.baseline(first) == []
    runs.run(first, blessed=True)
    assert runs.baseline(refused) == [first.id]
    runs.run(refused, blessed=False)
    assert runs.baseline(third) == [first.id]


def test_a_repeated_run_keeps_its_baseline_and_stays_cached() -> None:
    runs = Runs()
    first, second = runs.make(ExampleStatistics), runs.make(ExampleStatistics)
    runs.run(first, blessed=True)
    assert runs.baseline(first) == [], "as in the first run"
    before = runs.baseline(second)
    runs.run(second, blessed=True)
    assert runs.baseline(second) == before == [first.id]
