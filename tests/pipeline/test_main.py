import pytest

from pipeline.__main__ import _split


@pytest.mark.parametrize(
    ("given", "split"),
    [
        (("a=1 b=2",), ["a=1", "b=2"]),
        (("a=1", "b=2"), ["a=1", "b=2"]),
        (("head.hidden_units=[64, 32] training.steps=5",), ["head.hidden_units=[64, 32]", "training.steps=5"]),
        (("a={x: [1, 2], y: 3} b=4",), ["a={x: [1, 2], y: 3}", "b=4"]),
        (("data.images=my photos name=birds",), ["data.images=my photos", "name=birds"]),
        ((), []),
    ],
)
def test_overrides_stand_apart_by_spaces_and_brackets_hold_together(given, split):
    assert _split(given) == split
