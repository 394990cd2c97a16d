"""Resolves the model that a candidate is compared with: the last blessed one."""

from typing import Any

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

from core.artifacts.blessing import BASELINE_MODEL_ID, BLESSED, CURRENT_MODEL_ID, REJECTED


class BaselineStrategy(ResolverStrategy):
    """Resolves `model` to the last blessed model, never to the candidate itself; Predictor checks whether it loads.

    With TFX's LatestBlessedModelStrategy, a run repeated unchanged gets its own model as the baseline, so the Evaluator
    sees new inputs and runs again. Here such a candidate keeps the baseline it was blessed against.
    Channels: `candidate` and `model` (Model), `model_blessing` (ModelBlessing).
    """

    def resolve_artifacts(self, store: object, input_dict: dict[str, list[Artifact]]) -> dict[str, list[Artifact]]:
        """Returns the same channels: `model` and `model_blessing` with one artifact each, or none."""
        del store
        blessings = blessed_models(input_dict)
        models = {m.id: m for m in input_dict["model"] if m.id in blessings}
        chosen: Any = max(models, key=lambda model: blessings[model].id, default=None)
        if chosen is not None and chosen in {c.id for c in input_dict["candidate"]}:
            chosen = blessings[chosen].get_int_custom_property(BASELINE_MODEL_ID) or None
        return {
            "candidate": input_dict["candidate"],
            "model": [models[chosen]] if chosen in models else [],
            "model_blessing": [blessings[chosen]] if chosen in models else [],
        }


def blessed_models(input_dict: dict[str, list[Artifact]]) -> dict[int, Artifact]:
    """The latest blessing in `model_blessing` for each model that was blessed and not rejected, by the model's id."""
    blessings: dict[int, Artifact] = {}
    for blessing in sorted(input_dict["model_blessing"], key=lambda a: a.id):
        if blessing.get_int_custom_property(BLESSED) == 1 and not blessing.get_int_custom_property(REJECTED):
            blessings[blessing.get_int_custom_property(CURRENT_MODEL_ID) or 0] = blessing
    return blessings
