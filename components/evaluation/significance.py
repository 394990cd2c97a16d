"""How surely a bound is broken or kept: p-values of one-sided tests, and their correction for multiple testing.

Every test asks how likely a model that keeps the bound would look this bad by chance (`broken`), and how likely one
that breaks it would look this good (`kept`). Small means sure. docs/gate.md explains them in plain words, and
tests/components/evaluation/test_gate_rates.py measures how often they err.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from components.evaluation.intervals import tango_score


@dataclasses.dataclass(frozen=True)
class PValues:
    """The p-values of one bound.

    Attributes:
        broken: the chance that a model which just keeps the bound looks at least this bad.
        kept: the chance that a model which just breaks it looks at least this good.
        error: standard error of the value, which determines what could have been detected.
    """

    broken: float
    kept: float
    error: float

    def reversed(self) -> PValues:
        """The p-values of the opposite bound."""
        return PValues(self.kept, self.broken, self.error)

    def cautious(self, *others: PValues) -> PValues:
        """Combines several tests of the same bound: as sure as the least sure of them."""
        every = (self, *others)
        return PValues(max(e.broken for e in every), max(e.kept for e in every), max(e.error for e in every))


def fraction_at_least(successes: int, count: int, bound: float) -> PValues:
    """Tests that a fraction is at least `bound`; exact (Clopper and Pearson 1934), so valid even for a dozen images."""
    below, above = _at_most(successes, count, bound), _at_least(successes, count, bound)
    return PValues(below, above, math.sqrt(bound * (1 - bound) / count))


def drop_at_most(gained: int, lost: int, count: int, most: float) -> PValues:
    """Tests that the fraction of right images drops by at most `most` between two models on the same images.

    Tango's score test (1998) with a correction for continuity, never surer than two exact tests: McNemar's sign test
    (1947) for any drop at all, and the binomial test for a model that only loses. With `most` 0 it is the exact sign
    test. Of `count` images, only the new model gets `gained` right, only the old one `lost`.
    """
    discordant = gained + lost
    error = math.sqrt(max(discordant + 1 - (gained - lost) ** 2 / count, 1)) / count
    sign = PValues(_at_least(lost, discordant, 0.5), _at_least(gained, discordant, 0.5), error)
    if most <= 0:
        return sign
    broken = float(special.ndtr(tango_score(gained, lost, count, -most, 0.5)))
    kept = float(special.ndtr(-tango_score(gained, lost, count, -most, -0.5)))
    return PValues(
        max(sign.broken, broken, _at_least(lost - gained, count, most)),
        max(kept, _at_most(lost - gained, count, most)),
        error,
    )


def at_least(value: float, error: float, count: int, bound: float) -> PValues:
    """Tests that a value known to within a standard error is at least `bound`: Student's t with `count` - 1 degrees."""
    if count < 2:
        return PValues(1.0, 1.0, math.inf)
    score = (value - bound) / max(error, 1e-12)
    return PValues(float(stats.t.cdf(score, count - 1)), float(stats.t.sf(score, count - 1)), error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects the p-values of a family of tests (Holm 1979): any is below x by chance with probability at most x."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.array(p_values, float)[order] * factors), 1.0)
    result = np.empty(len(p_values))
    result[order] = corrected
    return result.tolist()


def _at_most(successes: int, count: int, chance: float) -> float:
    """The binomial probability of at most this many successes."""
    return float(special.bdtr(successes, count, chance)) if successes >= 0 else 0.0


def _at_least(successes: int, count: int, chance: float) -> float:
    """The binomial probability of at least this many successes."""
    return float(special.bdtrc(successes - 1, count, chance)) if successes > 0 else 1.0


def detectable(error: float, risk: float) -> float:
    """How far beyond its bound a true value must lie to be detected four times out of five, if tested at `risk`."""
    return float(special.ndtri(1 - risk) + special.ndtri(0.8)) * error
