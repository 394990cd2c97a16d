"""What the gate says: a sentence for every failure, and for what it could not judge or is not sure of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from components.evaluation import measures
from components.evaluation.bounds import Bound, Judged
from components.evaluation.measures import LOWER_IS_BETTER, SHARES
from components.evaluation.slice_result import SliceResult

_SHOWN = 5


def message(judged: Judged) -> str:
    """Metric, slice, value with interval, bound, and why that is no chance; or that it may be."""
    bound, result = judged.bound, judged.result
    found = result.range(bound.metric)
    images = f"{result.measured.examples} test images"
    if judged.state == "broken":
        many = f", corrected for {judged.tests} bounds" if judged.tests > 1 else ""
        why = f"by chance that happens with p = {judged.p:.1g}{many}"
        why = why if found["value"] is not None else "no bound is kept by that"
    else:
        why = "the images are too few to be sure of it, and evaluation.on_doubt is refuse"
    if bound.kind == "max_drop":
        return f"{_drop(bound, result)} on {images}; by at most {bound.value:g} is allowed; {why}"
    word = "at least" if bound.kind == "min" else "at most"
    value = f"{bound.metric} is {_shown(found, result.confidence)}{result.where} ({images})"
    return f"{value}; {word} {bound.value:g} is demanded; {why}"


def allowed(bound: Bound, result: SliceResult) -> float:
    """The value that a bound still allows."""
    if bound.kind != "max_drop" or result.past is None:
        return bound.value
    sign = -1 if bound.metric in LOWER_IS_BETTER else 1
    return result.past.metrics[bound.metric] - sign * bound.value


def notes(
    overall: SliceResult,
    slices: Sequence[SliceResult],
    bounds: Sequence[Bound],
    per_slice: Sequence[Bound],
    judged: Sequence[Judged],
    not_compared: str | None,
    strict: bool,
) -> Iterator[str]:
    """What was not judged and why, and which bounds the answers can neither call kept nor broken."""
    if not bounds and not per_slice:
        yield "nothing is demanded of the model: set evaluation.thresholds to have it judged"
    drops = [bound.metric for bound in (*bounds, *per_slice) if bound.kind == "max_drop"]
    if drops and overall.past is None:
        why = not_compared or "there is no blessed model yet"
        yield f"max_drop of {', '.join(dict.fromkeys(drops))} does not apply: {why}"
    elif overall.past is not None:
        for metric in dict.fromkeys(drops):
            if not math.isfinite(overall.past.metrics.get(metric, math.nan)):
                yield f"max_drop of {metric} does not apply: the blessed model's {metric} is not a number"
    for metric in dict.fromkeys(bound.metric for bound in per_slice):
        yield from _unjudged(metric, slices, [b for b in per_slice if b.metric == metric])
    if strict:
        return
    doubts = [j for j in judged if j.state == "doubt"]
    corrected = f"corrected for {len(judged)} bounds, " if len(judged) > 1 else ""
    yield from (_doubt(j, corrected) for j in doubts if j.result.is_overall)
    for bound in per_slice:
        unsure = [j for j in doubts if j.bound == bound and not j.result.is_overall]
        if unsure:
            yield _doubts(bound, unsure, sum(j.bound == bound for j in judged), corrected)


def _unjudged(metric: str, slices: Sequence[SliceResult], bounds: Sequence[Bound]) -> Iterator[str]:
    fewest = bounds[0].min_examples
    small = [result.measured for result in slices if result.measured.examples < fewest]
    if not slices:
        yield f"per_slice.{metric} does not apply: evaluation.slices names no slices"
    elif small:
        names = ", ".join(f"{m.slice} ({m.examples})" for m in small)
        yield (
            f"{len(small)} of {len(slices)} slices have fewer than {fewest} test images "
            f"and were not judged by {metric}: {names}"
        )
    alone = sum(not result.can_judge(metric) for result in slices)
    if alone:
        yield f"{alone} of {len(slices)} slices have images of one class only and were not judged by {metric}"


def _doubt(judged: Judged, corrected: str) -> str:
    bound, result = judged.bound, judged.result
    images = f"{corrected}{result.measured.examples} test images"
    if bound.kind == "max_drop":
        more = bound.value + judged.detectable
        return (
            f"{_drop(bound, result)}: {images} cannot tell whether it is by more than the {bound.value:g} that is "
            f"allowed; a true drop of {more:.3g} would be found four times in five"
        )
    found = _shown(result.range(bound.metric), result.confidence)
    return (
        f"{bound.metric} is {found}: {images} cannot tell whether it is truly "
        f"{'below' if bound.kind == 'min' else 'above'} {bound.value:g}; a value that misses this by "
        f"{judged.detectable:.2g} would be found four times in five"
    )


def _doubts(bound: Bound, unsure: Sequence[Judged], of: int, corrected: str) -> str:
    least = [j.result for j in sorted(unsure, key=lambda j: j.p)[:_SHOWN]]
    shown = "; ".join(f"{r.measured.slice}: {_shown(r.range(bound.metric), r.confidence)}" for r in least)
    more = f"; and {len(unsure) - len(least)} more" if len(unsure) > len(least) else ""
    return (
        f"per_slice.{bound.metric}.{bound.kind}: {corrected}for {len(unsure)} of {of} slices the test images cannot "
        f"tell whether {bound.value:g} is kept: {shown}{more}"
    )


def _drop(bound: Bound, result: SliceResult) -> str:
    """`accuracy drops from 0.90 (the blessed model) to 0.80 (change: …) on the slice …`."""
    assert result.past is not None and result.before is not None  # such a bound applies only then
    then, now = result.past.metrics[bound.metric], result.measured.metrics.get(bound.metric, math.nan)
    worse = now > then if bound.metric in LOWER_IS_BETTER else now < then
    verb = ("rises" if bound.metric in LOWER_IS_BETTER else "drops") if worse else "goes"
    change = result.change(bound.metric)
    span = f", change {_span(change, '+.3f', result.confidence)}" if change else ""
    counted = ""
    if bound.metric in SHARES:
        gained, lost = measures.discordant(result.answers, result.before, bound.metric)
        counted = f", {lost} images lost and {gained} gained"
    return (
        f"{bound.metric} {verb} from {then:.4f} (the blessed model) to {_number(now)}{result.where} "
        f"({_trimmed(span + counted)})"
    )


def _shown(found: Mapping[str, float | None], confidence: float) -> str:
    """`0.6900 (95 %: 0.612 to 0.755)`."""
    if found["value"] is None:
        return "not a finite number"
    return f"{found['value']:.4f}" + (f" ({_span(found, '.3f', confidence)})" if found["low"] is not None else "")


def _span(found: Mapping[str, float | None], form: str, confidence: float) -> str:
    return f"{100 * confidence:g} %: {found['low']:{form}} to {found['high']:{form}}"


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not a finite number"


def _trimmed(text: str) -> str:
    return text.removeprefix(", ")
