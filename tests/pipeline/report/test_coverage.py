"""The curve of accuracy against coverage, and what the report says of labels that are withheld and of novel images."""

from __future__ import annotations

import dataclasses

import pytest

from core.artifacts.predictions import Prediction
from pipeline.report.coverage import coverage, most_novel


def predictions(count: int = 200) -> list[Prediction]:
    """The surer, the more often right: of the half that is less sure every fourth is wrong."""
    made = []
    for number in range(count):
        right = number < count // 2 or number % 4 > 0
        one = Prediction(
            "a" if right else "b", 1 - number / count / 2, 0.5, 1, f"{number:03d}", "", "a", {}, novelty=number / count
        )
        made.append(one)
    return made


def test_the_curve_goes_from_few_of_the_surest_images_to_all() -> None:
    found = coverage(predictions())

    assert found is not None
    assert found.curve[0].coverage == pytest.approx(0.05) and found.curve[0].accuracy.value == 1
    assert found.curve[-1].coverage == 1 and found.curve[-1].accuracy.value == pytest.approx(0.875)
    coverages = [point.coverage for point in found.curve]
    assert coverages == sorted(set(coverages)) and len(coverages) <= 101
    assert [point.coverage for point in found.table] == [1, 0.95, 0.9, 0.8, 0.7, 0.5]
    half = found.table[-1]
    assert (half.accuracy.value, half.accuracy.count) == (1, 100)
    assert half.probability == pytest.approx(1 - 99 / 400)
    assert found.chosen is None and not any(found.reasons.values())


def test_labels_that_are_withheld_are_counted_by_their_reason() -> None:
    made = [
        dataclasses.replace(p, reason="novelty 0.99 is above 0.9" if n < 190 else "probability 0.5 is below 0.6")
        if n >= 160
        else p
        for n, p in enumerate(predictions())
    ]

    found = coverage(made)

    assert found is not None and found.chosen is not None
    assert found.reasons == {"probability": 10, "novelty": 30}
    assert found.chosen.coverage == pytest.approx(0.8) and found.chosen.accuracy.count == 160
    assert found.chosen.accuracy.value == pytest.approx(145 / 160)


def test_equal_probabilities_are_one_point() -> None:
    found = coverage([dataclasses.replace(p, probability=0.9) for p in predictions(40)])

    assert found is not None and [point.coverage for point in found.curve] == [1]
    assert len(found.table) == 1


def test_novelty_is_compared_with_what_it_should_be_and_the_most_novel_come_first() -> None:
    found = coverage(predictions())

    assert found is not None
    assert {rank: round(one.value, 3) for rank, one in found.beyond.items()} == {0.5: 0.495, 0.9: 0.095, 0.99: 0.005}
    assert [p.path for p in found.novel] == [f"{n:03d}" for n in range(199, 193, -1)]


def test_images_that_could_not_be_read_have_no_label_and_no_novelty() -> None:
    unread = dataclasses.replace(predictions(1)[0], predicted="", novelty=0.0)
    found = coverage([*predictions(40), unread])

    assert found is not None and found.curve[-1].coverage == pytest.approx(40 / 41)
    assert unread not in most_novel([*predictions(40), unread])
    assert coverage([unread]) is None and coverage([]) is None
