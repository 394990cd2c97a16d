"""Which layers of the base train and how fast: one ordered list of (pattern, multiplier), and the cut it implies.

As in google-research/big_vision, the first matching pattern decides, freezing is a rule like any other, and a layer
that no pattern matches is an error. Needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence

from core import inception_v3
from core.errors import InputError
from core.settings.backbone import BLOCKS
from core.settings.training import FineTuneConfig, TrainerConfig

_ENDS = ("max_pooling2d_1", *BLOCKS)  # the last layers of the stem and of every block

Rule = tuple[str, float]
"""A regular expression that must match a layer's whole name, and a multiplier of the learning rate; 0 freezes."""


@dataclasses.dataclass(frozen=True)
class Match:
    """What was decided for one layer; the fields are as in `core.artifacts.training_summary.LayerRange`."""

    layer: str
    multiplier: float
    rule: str
    parameters: int


def base_layers(output: str) -> tuple[str, ...]:
    """The names in Keras's `base.layers`, the input first, so that `[:-5]` means what `base.layers[:-5]` means."""
    return (inception_v3.INPUT, *(layer.name for layer in inception_v3.between(None, output)))


def expand(fine_tune: FineTuneConfig, output: str) -> tuple[Rule, ...]:
    """The rules that the setting stands for; shorthands are expanded to their layers.

    `from` a block (`mixed9`) means the entire block, from the first layer after the previous one to the concatenation
    of that name. With `decay` there is a rule for every block, and for the stem. Raises InputError if `from` names no
    layer.
    """
    if fine_tune.rules is not None:
        return fine_tune.rules
    names = base_layers(output)
    trained: Sequence[str] = ()
    if fine_tune.last_layers is not None:
        trained = names[len(names) - min(fine_tune.last_layers, len(names)) :]
    elif fine_tune.from_layer is not None:
        if fine_tune.from_layer not in names:
            near = difflib.get_close_matches(fine_tune.from_layer, names, n=3)
            raise InputError(
                f"fine_tune.from is {fine_tune.from_layer!r}, which is not a layer of InceptionV3 up to {output}. "
                + (f"Near it: {', '.join(near)}." if near else f"Its blocks: {', '.join(BLOCKS)}.")
            )
        first = names.index(fine_tune.from_layer)
        if fine_tune.from_layer in BLOCKS:
            first = names.index(_ENDS[BLOCKS.index(fine_tune.from_layer)]) + 1
        trained = names[first:]
    ends = [names.index(end) for end in _ENDS if end in names]
    by_multiplier: dict[float, list[str]] = {}
    for name in trained:
        blocks_above = sum(end >= names.index(name) for end in ends) - 1
        multiplier = 1.0 if fine_tune.decay is None else fine_tune.decay**blocks_above
        by_multiplier.setdefault(multiplier, []).append(re.escape(name))
    return (*(("|".join(layers), multiplier) for multiplier, layers in by_multiplier.items()), (".*", 0.0))


def matched(fine_tune: FineTuneConfig, output: str) -> tuple[Match, ...]:
    """What the rules decide for every layer of the base up to block `output`, in order.

    Raises:
        InputError: a pattern is not a regular expression or matches no layer, a multiplier is negative, or no pattern
            matches a layer.
    """
    rules = expand(fine_tune, output)
    specs = inception_v3.between(None, output)
    compiled = [_compiled(rule, specs) for rule in rules]
    shorthand = _shorthand(fine_tune)
    found = []
    for spec in specs:
        hit = next((i for i, pattern in enumerate(compiled) if pattern.fullmatch(spec.name)), None)
        if hit is None:
            raise InputError(
                f"fine_tune.rules: no pattern matches the layer {spec.name}. "
                'End the list with [".*", 0] to freeze whatever is left, or with [".*", 1] to train it.'
            )
        pattern, multiplier = rules[hit]
        parameters = sum(math.prod(shape) for _, shape in spec.weights[:1])  # a kernel, or BatchNorm's beta
        found.append(Match(spec.name, multiplier, shorthand or pattern, parameters))
    return tuple(found)


def trained_layers(fine_tune: FineTuneConfig, output: str) -> dict[str, float]:
    """The trainable layers that have weights, with their multipliers, in order. Raises what `matched` raises."""
    return {m.layer: m.multiplier for m in matched(fine_tune, output) if m.multiplier > 0 and m.parameters > 0}


def cut_for(fine_tune: FineTuneConfig, output: str) -> str | None:
    """Where the network can be cut so that nothing below ever changes. Raises what `matched` raises.

    Returns:
        `pooled` if nothing in the base trains (layers without weights have nothing to train), else the last block
        before the first layer that trains; None if there is no such block, so that training must read images.
    """
    trained = trained_layers(fine_tune, output)
    if not trained:
        return inception_v3.POOLED
    names = base_layers(output)
    first = names.index(next(iter(trained)))
    return next((block for block in reversed(BLOCKS) if block in names[:first]), None)


def features_cut(config: TrainerConfig) -> str | None:
    """The cut whose features training reads; None if it reads images: without a cut, or with live augmentation."""
    varied = config.training.augmentation
    if varied is not None and varied.views is None:
        return None
    return cut_for(config.fine_tune, config.backbone.output)


def _shorthand(fine_tune: FineTuneConfig) -> str | None:
    """The setting as the user wrote it, if it is a shorthand without patterns."""
    decay = "" if fine_tune.decay is None else f", decay: {fine_tune.decay}"
    if fine_tune.last_layers is not None:
        return f"last_layers: {fine_tune.last_layers}{decay}"
    if fine_tune.rules is None:
        return f"from: {fine_tune.from_layer}{decay}" if fine_tune.from_layer else "base frozen"
    return None


def _compiled(rule: Rule, specs: Sequence[inception_v3.Layer]) -> re.Pattern[str]:
    text, multiplier = rule
    if multiplier < 0:
        raise InputError(f"fine_tune.rules: the multiplier of {text!r} is {multiplier}; it must be 0 (frozen) or more.")
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise InputError(f"fine_tune.rules: {text!r} is not a regular expression: {error}.") from error
    if not any(pattern.fullmatch(spec.name) for spec in specs):
        names = [spec.name for spec in specs if pattern.search(spec.name)]
        hint = f" It must match a whole name, such as {names[0]}." if names else ""
        raise InputError(f"fine_tune.rules: {text!r} matches no layer of InceptionV3 up to {specs[-1].name}.{hint}")
    return pattern
