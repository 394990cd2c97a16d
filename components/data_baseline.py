"""Resolves the data that a run's data are compared with: those that the last blessed model was trained on."""

from ml_metadata.metadata_store import MetadataStore
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

from components.baseline import blessed_models

_RUN = "pipeline_run"


class DataBaselineStrategy(ResolverStrategy):
    """Resolves `baseline` to the statistics from the run of the last blessed model, never to this run's own.

    So a run repeated with the same data is compared with the same baseline, and stays cached.
    Channels: `statistics` (this run's) and `baseline` (ExampleStatistics), `model` and `model_blessing`.
    """

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns the same channels: `baseline` with one artifact or none, `model_blessing` with that of its run.

        The blessing is returned so that ML Metadata records that this run needs it to find its baseline again.
        """
        own = {statistics.id for statistics in input_dict["statistics"]}
        earlier = {statistics.id: statistics for statistics in input_dict["baseline"] if statistics.id not in own}
        chosen: list[Artifact] = []
        blessed: list[Artifact] = []
        for blessing in sorted(blessed_models(input_dict).values(), key=lambda a: a.id, reverse=True):
            runs = [c for c in store.get_contexts_by_artifact(blessing.id) if c.type == _RUN]
            made = {a.id for run in runs for a in store.get_artifacts_by_context(run.id)}
            found = sorted(made & earlier.keys())
            if found:
                chosen, blessed = [earlier[found[-1]]], [blessing]
                break
        return {**input_dict, "baseline": chosen, "model": [], "model_blessing": blessed}
