"""Which model a candidate is judged against: the last blessed one."""

from typing import Any

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

from core.artifacts.blessing import BASELINE_MODEL_ID, BLESSED, CURRENT_MODEL_ID, REJECTED


class BaselineStrategy(ResolverStrategy):
    """Resolves `model` to the last blessed model, and never to the candidate itself; Predictor finds out if it loads.

    TFX's LatestBlessedModelStrategy gives a run that is repeated unchanged its own model as the baseline: the Evaluator
    then sees new inputs and runs again. Here such a candidate keeps the baseline that it was blessed against.
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
    """Of each model that was blessed, and that nobody rejected, by its id, the latest blessing in `model_blessing`."""
    blessings: dict[int, Artifact] = {}
    for blessing in sorted(input_dict["model_blessing"], key=lambda a: a.id):
        if blessing.get_int_custom_property(BLESSED) == 1 and not blessing.get_int_custom_property(REJECTED):
            blessings[blessing.get_int_custom_property(CURRENT_MODEL_ID) or 0] = blessing
    return blessings
