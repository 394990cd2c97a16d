"""Which images are to be labeled next."""

from collections.abc import Sequence

import numpy as np

from components.monitoring.selection import Candidates, margin
from core.artifacts.monitoring import Observation


def observation(number: int, first: float, novelty: float | None = None) -> Observation:
    return Observation(f"{number}.png", None, (first, 1 - first), "", novelty, {})


def vectors(pool: Sequence[Observation]) -> np.ndarray:
    """Images of the same ten are the same."""
    return np.array([[int(one.path.split(".")[0]) // 10, 0.0] for one in pool])


def test_a_quarter_is_random_and_the_rest_uncertain_and_novel() -> None:
    candidates = Candidates(40)
    for number in range(1000):
        candidates.add(observation(number, 0.5 if number < 200 else 0.99, 0.99 if number >= 800 else 0.1))
    chosen = candidates.choose(vectors)
    assert len(chosen) == len({one.observation.path for one in chosen}) == 40
    by = {why: [one.observation for one in chosen if one.why == why] for why in ("random", "novel", "uncertain")}
    assert [len(by[why]) for why in by] == [10, 15, 15]
    assert all(one.novelty == 0.99 for one in by["novel"]) and all(margin(one) == 0 for one in by["uncertain"])
    assert sum(200 <= int(one.path.split(".")[0]) < 800 for one in by["random"]) >= 1  # neither uncertain nor novel


def test_what_is_chosen_is_not_all_alike() -> None:
    candidates = Candidates(12)
    for number in range(36):
        candidates.add(observation(number, 0.5))
    chosen = [
        int(one.observation.path.split(".")[0]) // 10 for one in candidates.choose(vectors) if one.why != "random"
    ]
    assert {0, 1, 2, 3} <= set(chosen)


def test_what_cannot_be_looked_at_or_was_not_read_is_not_chosen_and_nothing_twice() -> None:
    candidates = Candidates(10)
    candidates.add(Observation("", None, (0.5, 0.5), "", None, {}))
    candidates.add(Observation("a.png", None, (), "cut short", None, {}))
    assert candidates.choose(vectors) == []
    for _ in range(3):
        candidates.add(observation(1, 0.5))
    assert [one.observation.path for one in candidates.choose(vectors)] == ["1.png"]


def test_memory_is_bounded() -> None:
    candidates = Candidates(5)
    for number in range(500):
        candidates.add(observation(number, 0.5, 0.9))
    assert max(map(len, (candidates._drawn, candidates._uncertain, candidates._novel))) == 20
