"""Resolves the earlier features that a run may reuse, so that a run repeated unchanged is still cached."""

from __future__ import annotations

import math

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

from core.artifacts.executions import EXECUTION, execution_key, made_by

_MOST = 4  # artifacts; FeatureExtractor reads those that fit once in full


class EarlierFeaturesStrategy(ResolverStrategy):
    """Resolves `features` to the latest few that existed before the same execution first ran; see `executions`.

    Channels: `examples`, `transform_graph`, `backbone` (the execution's inputs) and `features` (all Examples).
    """

    def __init__(self, config: str, code: str) -> None:
        """FeatureExtractor's parameters."""
        self._parameters = config, code

    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        """Returns the same channels, `features` latest first."""
        del store
        key = execution_key(
            self._parameters, [input_dict[name][0] for name in ("examples", "transform_graph", "backbone")]
        )
        features = [artifact for artifact in input_dict["features"] if artifact.has_custom_property(EXECUTION)]
        first = min((artifact.id for artifact in made_by(key, features)), default=math.inf)
        before = sorted((a for a in features if a.id < first), key=lambda artifact: artifact.id, reverse=True)
        return {**input_dict, "features": before[:_MOST]}
