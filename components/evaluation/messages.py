"""The gate's messages: a sentence for every failure, and for what could not be checked or is in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from components.evaluation.bounds import Bound, Judged
from components.evaluation.slice_result import SliceResult
from core.artifacts.predictions import BASELINE
from core.artifacts.verdict import Range, Regressions
from core.errors import some
from core.metrics import LOWER_IS_BETTER

_SHOWN = 5
_ACCURACY = "accuracy"


def message(judged: Judged) -> str:
    """A failure: metric, slice, value with interval, bound, and why it is not due to chance, or that it may be."""
    bound, result = judged.bound, judged.result
    found = result.range(bound.metric)
    if judged.state == "doubt":
        reason = "too few images to be sure, and evaluation.on_doubt is refuse"
    elif found.value is None:
        reason = "that meets no bound"
    else:
        reason = f"{_p(judged.p)}{_corrected(judged.tests)}"
    advice = ""
    if result.export:
        advice = f". Raise evaluation.{bound.setting}, or leave {result.export} out of export to push without it"
    return f"{_value(bound, result)}; {_allows(bound)}; {reason}{advice}"


def allowed(bound: Bound, result: SliceResult) -> float:
    """The limit that a bound sets for the candidate's value."""
    past = result.value(bound.metric, BASELINE)
    if bound.kind != "max_drop" or past is None:
        return bound.value
    return past + bound.value if bound.metric in LOWER_IS_BETTER else past - bound.value


def cut(slices: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Notes on features and crosses with too many slices; `slices` has the numbers measured and in total."""
    for name, (kept, of) in slices.items():
        yield (
            f"evaluation.slices: {name} makes {of:,} slices, of which the {kept:,} with the most test images were "
            "measured; bounds in evaluation.per_slice are judged on every one that has min_examples test images"
        )


def notes(
    overall: SliceResult,
    slices: Sequence[SliceResult],
    bounds: Sequence[Bound],
    judged: Sequence[Judged],
    not_compared: str | None,
    strict: bool,
) -> Iterator[str]:
    """What was not checked and why, and which bounds the predictions leave in doubt."""
    bounds = [bound for bound in bounds if bound.group in ("thresholds", "per_slice")]
    if not bounds:
        found = _shown(overall.range(_ACCURACY), overall.confidence)
        yield (
            f"there are no bounds, so every model passes, as this one with an accuracy of {found} on "
            f"{_images(overall.examples)}: set evaluation.thresholds, such as accuracy: {{min: 0.8}}"
        )
    drops = list(dict.fromkeys(bound.metric for bound in bounds if bound.kind == "max_drop"))
    if drops and not_compared:
        yield f"max_drop of {', '.join(drops)} was not checked: {not_compared}"
    elif overall.compared:
        for metric in drops:
            if overall.value(metric, BASELINE) is None:
                yield f"max_drop of {metric} was not checked: the last blessed model's {metric} is not a finite number"
    per_slice = [bound for bound in bounds if bound.group == "per_slice"]
    for metric in dict.fromkeys(bound.metric for bound in per_slice):
        yield from _unchecked(metric, slices, next(b.min_examples for b in per_slice if b.metric == metric))
    if strict:
        return
    doubts = [j for j in judged if j.state == "doubt"]
    corrected = _corrected(len(judged))
    yield from (_doubt(j, corrected) for j in doubts if j.result.is_overall)
    for bound in per_slice:
        unsure = [j for j in doubts if j.bound == bound]
        if unsure:
            yield _doubts(bound, unsure, sum(j.bound == bound for j in judged), corrected)


def kept_regressions(found: Regressions | None) -> Iterator[str]:
    """Which of the images that must stay right are wrong, if no more are than allowed."""
    if found and found.wrong and not found.message:
        paths = some([one.path for one in found.wrong], shown=_SHOWN)
        yield (
            f"{len(found.wrong)} of {found.images} images of evaluation.regressions are not right, and {found.allowed} "
            f"may be (evaluation.max_regressions): {paths}"
        )


def _unchecked(metric: str, slices: Sequence[SliceResult], fewest: int) -> Iterator[str]:
    small = [result for result in slices if result.examples < fewest]
    if not slices:
        yield f"per_slice.{metric} was not checked: evaluation.slices is empty"
    elif small:
        names = some([f"{result.slice} ({result.examples})" for result in small])
        yield (
            f"{metric} was not checked on {len(small)} of {len(slices)} slices, "
            f"which have fewer than {fewest} test images: {names}"
        )
    one_class = sum(not result.estimates.of(metric) for result in slices)
    if one_class:
        yield f"{metric} was not checked on {one_class} of {len(slices)} slices, which have images of only one class"


def _doubt(judged: Judged, corrected: str) -> str:
    bound, result = judged.bound, judged.result
    if bound.kind == "max_drop":
        question, effect = f"that is more than the {bound.value:g} allowed", "drop"
        size = f"{bound.value + judged.detectable:.3g}"
    else:
        question = f"it is truly {'below' if bound.kind == 'min' else 'above'} {bound.value:g}"
        size, effect = f"{judged.detectable:.2g}", "shortfall" if bound.kind == "min" else "excess"
    return (
        f"{_value(bound, result)}: these images cannot tell whether {question}{corrected}; "
        f"they would reveal a true {effect} of {size} four times out of five"
    )


def _doubts(bound: Bound, unsure: Sequence[Judged], of: int, corrected: str) -> str:
    least = [j.result for j in sorted(unsure, key=lambda j: j.p)[:_SHOWN]]
    shown = "; ".join(f"{r.slice}: {_shown(r.range(bound.metric), r.confidence)}" for r in least)
    more = f"; and {len(unsure) - len(least)} more" if len(unsure) > len(least) else ""
    return (
        f"{bound.setting}: on {len(unsure)} of {of} slices, the test images cannot tell whether {bound.value:g} is met"
        f"{corrected}: {shown}{more}"
    )


def _value(bound: Bound, result: SliceResult) -> str:
    """`accuracy is 0.6900 (95% CI 0.612 to 0.755) on 200 test images of label=roses`; both values for a drop."""
    of, before = (f"{result.export}: ", "SavedModel") if result.export else ("", "last blessed model")
    images = f"on {_images(result.examples)}" + ("" if result.is_overall else f" of {result.slice}")
    found = result.range(bound.metric)
    if bound.kind != "max_drop":
        return f"{of}{bound.metric} is {_shown(found, result.confidence)} {images}"
    then = result.value(bound.metric, BASELINE)
    change, detail = result.change(bound.metric), result.estimates.change(bound.metric)
    assert then is not None and change and detail  # such a bound applies only then
    now = f"{found.value:.4f}" if found.value is not None else "not a finite number"
    verb = "went" if found.value is None or found.value == then else "rose" if found.value > then else "fell"
    counted = f"; {detail.detail}" if detail.detail else ""
    return (
        f"{of}{bound.metric} {verb} from {then:.4f} ({before}) to {now} "
        f"(change {_limits(change, '+.3f', result.confidence)}{counted}) {images}"
    )


def _images(number: int) -> str:
    return f"{number} test image{'' if number == 1 else 's'}"


def _allows(bound: Bound) -> str:
    if bound.kind == "max_drop":
        return f"the most it may {'rise' if bound.metric in LOWER_IS_BETTER else 'fall'} is {bound.value:g}"
    return f"the {'minimum' if bound.kind == 'min' else 'maximum'} is {bound.value:g}"


def _p(value: float) -> str:
    return f"p = {value:.1g}" if value >= 1e-15 else "p < 1e-15"


def _corrected(tests: int) -> str:
    return f" (corrected for {tests} bounds)" if tests > 1 else ""


def _shown(found: Range, confidence: float) -> str:
    """`0.6900 (95% CI 0.612 to 0.755)`."""
    if found.value is None:
        return "not a finite number"
    return f"{found.value:.4f}" + (f" ({_limits(found, '.3f', confidence)})" if found.low is not None else "")


def _limits(found: Range, form: str, confidence: float) -> str:
    return f"{100 * confidence:g}% CI {found.low:{form}} to {found.high:{form}}"
