"""Which earlier features a run may look its images up in; a run repeated unchanged still finds its own in the cache."""

from __future__ import annotations

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

EXAMPLES_ID, PARAMETERS = "examples_id", "parameters"
"""Custom properties of features: the Examples they are of, and what else FeatureExtractor was asked."""

_MOST = 4  # artifacts; FeatureExtractor reads what fits of each once


class EarlierFeaturesStrategy(ResolverStrategy):
    """Resolves `features` to the latest few that were there before those of the same examples and parameters.

    TFX's LatestArtifactStrategy would hand a run that is repeated unchanged the features it has made itself: its inputs
    would be new, and it would never be cached. What was there before does not change.
    Channels: `examples` (those at hand) and `features` (all Examples there are).
    """

    def __init__(self, parameters: str) -> None:
        """`parameters` are FeatureExtractor's."""
        self._parameters = parameters

    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        """Returns the same channels, `features` latest first."""
        del store
        at_hand = {artifact.id for artifact in input_dict["examples"]}
        made = sorted(
            (a for a in input_dict["features"] if a.has_custom_property(EXAMPLES_ID)), key=lambda a: a.id, reverse=True
        )
        own = [
            artifact.id
            for artifact in made
            if artifact.get_int_custom_property(EXAMPLES_ID) in at_hand
            and artifact.get_string_custom_property(PARAMETERS) == self._parameters
        ]
        before = [artifact for artifact in made if not own or artifact.id < min(own)]
        return {"examples": input_dict["examples"], "features": before[:_MOST]}
