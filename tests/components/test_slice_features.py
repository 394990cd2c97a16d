import pytest

from components import slice_features


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((298, 299), "small"),
        ((299, 299), "medium"),
        ((999, 1000), "medium"),
        ((1000, 1000), "large"),
    ],
)
def test_resolution_is_by_the_number_of_pixels(size: tuple[int, int], words: str) -> None:
    assert slice_features.resolution(*size) == words


@pytest.mark.parametrize(
    ("size", "words"), [((110, 100), "square"), ((111, 100), "landscape"), ((100, 111), "portrait"), ((1, 1), "square")]
)
def test_aspect_is_square_within_ten_percent(size: tuple[int, int], words: str) -> None:
    assert slice_features.aspect(*size) == words


@pytest.mark.parametrize(("luma", "words"), [(84.9, "dark"), (85, "medium"), (169.9, "medium"), (170, "bright")])
def test_brightness_is_by_thirds(luma: float, words: str) -> None:
    assert slice_features.brightness(luma) == words
