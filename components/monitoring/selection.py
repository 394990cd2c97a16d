"""Selects production images to label: some at random, the others uncertain or novel, and dissimilar."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from core.artifacts.monitoring import Observation

Why = Literal["random", "novel", "uncertain"]

_RANDOM = 4  # one image in so many is drawn at random, so that labels measure something
_POOL = 4  # times as many candidates as are chosen
_NOVEL = 0.5  # below this an image is not called novel


class Chosen(NamedTuple):
    """An image to label, and why."""

    observation: Observation
    why: Why


class Candidates:
    """A bounded number of candidates from any number of observations."""

    def __init__(self, count: int) -> None:
        """`count`: how many images to label."""
        self._count = count
        self._uncertain: list[tuple[float, int, Observation]] = []
        self._novel: list[tuple[float, int, Observation]] = []
        self._drawn: list[tuple[float, int, Observation]] = []
        self._seen: set[str] = set()
        self._generator = np.random.default_rng(0)

    def add(self, one: Observation) -> None:
        """Considers an image if it was kept and the model can read it; each path counts once."""
        if not one.path or not one.probabilities or one.path in self._seen:
            return
        self._seen.add(one.path)
        number, most = len(self._seen), _POOL * self._count
        _keep(self._drawn, (float(self._generator.random()), number, one), most)
        _keep(self._uncertain, (-margin(one), number, one), most)
        if one.novelty is not None and one.novelty > _NOVEL:
            _keep(self._novel, (one.novelty, number, one), most)

    def choose(self, embed: Callable[[Sequence[Observation]], np.ndarray]) -> list[Chosen]:
        """Chooses at most `count` images: a quarter at random, the others half novel and half uncertain.

        It prefers candidates that are least similar to those already chosen (k-center; Sener and Savarese 2018).

        Args:
            embed: gives a vector per image, float [n, d].
        """
        drawn = [one for _, _, one in sorted(self._drawn, key=lambda entry: entry[:2], reverse=True)]
        chosen = [Chosen(one, "random") for one in drawn[: -(-self._count // _RANDOM)]]
        for why, heap, quota in (
            ("novel", self._novel, (self._count - len(chosen)) // 2 if self._novel else 0),
            ("uncertain", self._uncertain, self._count),
        ):
            taken = {one.observation.path for one in chosen}
            pool = [one for _, _, one in sorted(heap, key=lambda e: e[:2], reverse=True) if one.path not in taken]
            wanted = min(quota, self._count - len(chosen), len(pool))
            pool = pool[: _POOL * wanted]
            places = _spread(embed(pool), wanted) if wanted < len(pool) else range(wanted)
            chosen += [Chosen(pool[place], why) for place in places]  # type: ignore[arg-type]
        return chosen


def margin(one: Observation) -> float:
    """By how much the most probable class leads the second."""
    first, *rest = heapq.nlargest(2, one.probabilities)
    return first - (rest[0] if rest else 0.0)


def _keep(heap: list[tuple[float, int, Observation]], entry: tuple[float, int, Observation], most: int) -> None:
    """Keeps the `most` entries with the largest first value."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _spread(vectors: np.ndarray, count: int) -> list[int]:
    """Indices of `count` vectors: the first one, then always the one farthest from those chosen so far."""
    taken = [0]
    distance = np.linalg.norm(vectors - vectors[0], axis=1)
    distance[0] = -1
    while len(taken) < count:
        farthest = int(distance.argmax())
        taken.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(vectors - vectors[farthest], axis=1))
        distance[taken] = -1
    return taken
