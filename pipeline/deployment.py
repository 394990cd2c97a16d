"""Where a pipeline is deployed: its folders, the parameters of its runs, and what its orchestrator supports."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import BaseChannel, Channel
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Model, ModelBlessing

from components.baseline import BaselineStrategy
from components.data_baseline import DataBaselineStrategy
from components.earlier_features import EarlierFeaturesStrategy
from components.warm_start import LastBlessedStrategy
from core.artifacts.nodes import BASELINE, DATA_BASELINE, EARLIER_FEATURES, LAST_BLESSED
from core.settings import Settings, to_dict


class Resolvers:
    """The nodes that resolve artifacts of earlier runs, for orchestrators that run custom strategies."""

    def data_baseline(self, statistics: BaseChannel) -> Resolver | None:
        """The statistics that the last blessed model was trained on."""
        return Resolver(
            strategy_class=DataBaselineStrategy,
            statistics=statistics,
            baseline=Channel(type=ExampleStatistics),
            **_models(),
        ).with_id(DATA_BASELINE.node)

    def earlier_features(self, config: str, code: str, **inputs: BaseChannel) -> Resolver | None:
        """Resolves features of earlier runs; parameters and inputs are FeatureExtractor's."""
        return Resolver(
            strategy_class=EarlierFeaturesStrategy,
            config={"config": config, "code": code},
            **inputs,
            features=Channel(type=Examples),
        ).with_id(EARLIER_FEATURES.node)

    def last_blessed(self, training: str, **inputs: BaseChannel) -> Resolver:
        """The model that a warm start begins with."""
        return Resolver(
            strategy_class=LastBlessedStrategy, config={"training": training}, **inputs, **_models()
        ).with_id(LAST_BLESSED.node)

    def baseline(self, candidate: BaseChannel) -> Resolver:
        """The model that a candidate is compared with."""
        return Resolver(strategy_class=BaselineStrategy, candidate=candidate, **_models()).with_id(BASELINE.node)


class TfxResolvers(Resolvers):
    """The same for Vertex AI, which runs only TFX's own strategies, and thus no warm starts."""

    def data_baseline(self, statistics: BaseChannel) -> None:  # noqa: D102
        return None

    def earlier_features(self, config: str, code: str, **inputs: BaseChannel) -> None:  # noqa: D102
        return None

    def baseline(self, candidate: BaseChannel) -> Resolver:  # noqa: D102
        return Resolver(strategy_class=LatestBlessedModelStrategy, **_models()).with_id(BASELINE.node)


def _models() -> dict[str, Channel]:
    """All models of earlier runs, and their blessings."""
    return {"model": Channel(type=Model), "model_blessing": Channel(type=ModelBlessing)}


@dataclasses.dataclass(frozen=True)
class Deployment:
    """Where a run reads and writes, which is what differs between a laptop and a cluster.

    Any folder may be remote (`gs://…`). If runs are started with parameters, some fields are TFX RuntimeParameters.

    Attributes:
        images: the data folder, or a pattern of spans; see `core.uris`.
        push_directory: where blessed models are pushed, each in a folder named by its version; a RuntimeParameter has
            `push_to` as JSON for its value.
        train_args: a RuntimeParameter has `train_args` as JSON for its value; None takes the steps from the settings.
        weights_fingerprint: identifies the content of `backbone.weights`.
        schema_inferred: whether the schema was inferred from the images, and is not yet in a file.
    """

    pipeline_root: str
    images: str | RuntimeParameter
    push_directory: str | RuntimeParameter
    train_args: RuntimeParameter | None = None
    weights_fingerprint: str = ""
    schema_inferred: bool = False
    resolvers: Resolvers = Resolvers()


def push_to(directory: str) -> pusher_pb2.PushDestination:
    """The push destination: a folder with a subfolder for each version, named by a number."""
    return pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=directory))


def train_args(steps: int) -> trainer_pb2.TrainArgs:
    """The Trainer's arguments besides its settings."""
    return trainer_pb2.TrainArgs(splits=["train"], num_steps=steps)


def portable(settings: Settings) -> dict[str, Any]:
    """The settings without the folders that each run is given, so that a spec is independent of the machine."""
    plain = to_dict(settings)
    del plain["data"]["images"], plain["push"]["directory"]
    return plain
