"""Judges past failures that must stay right: a fixed set of images, each on its own. Needs no TFX."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from core.artifacts.ingest_record import Reject
from core.artifacts.predictions import Prediction
from core.artifacts.verdict import Regression, Regressions
from core.errors import some


def judge_regressions(
    folder: str, predictions: Iterable[Prediction], unused: Sequence[Reject], classes: Collection[str], allowed: int
) -> Regressions:
    """Which of the images are wrong, and whether there are more than `allowed`.

    The set is not a sample, so its number of mistakes is compared with the bound without interval or test.

    Args:
        unused: files that did not become examples, with the reasons; they count as wrong.
        classes: the candidate's.
    """
    asked = list(predictions)
    wrong = [_wrong(one, classes) for one in asked if not one.right]
    wrong += [Regression(one.path, one.label, reason=one.reason) for one in unused]
    wrong.sort(key=lambda one: (not one.new, one.path))
    images = len(asked) + len(unused)
    message = None
    if not images:
        message = f"evaluation.regressions: {folder} holds no images"
    elif len(wrong) > allowed:
        new = sum(one.new for one in wrong)
        before = f", {new} of which the last blessed model has right" if new else ""
        message = (
            f"evaluation.regressions: {len(wrong)} of {images} images in {folder} are not right{before}; "
            f"{allowed or 'none'} may be wrong: {some([_shown(one) for one in wrong], shown=3)}"
        )
    return Regressions(folder, images, allowed, wrong, message)


def _wrong(one: Prediction, classes: Collection[str]) -> Regression:
    reason = "" if one.label in classes else f"the model has no class {one.label}"
    if not one.predicted:
        reason = reason or "the model cannot read it"
    before = one.baseline.predicted if one.baseline else None
    return Regression(one.path, one.label, one.predicted, one.probability, before, reason)


def _shown(one: Regression) -> str:
    return f"{one.path} ({one.reason or f'predicted as {one.predicted}'})"
