import pytest

from components.ingestion import slice_features


@pytest.mark.parametrize(
    ("size", "words"), [((110, 100), "square"), ((111, 100), "landscape"), ((100, 111), "portrait"), ((1, 1), "square")]
)
def test_aspect_is_square_within_ten_percent(size: tuple[int, int], words: str) -> None:
    assert slice_features.aspect(*size) == words


@pytest.mark.parametrize(
    ("value", "boundaries", "words"),
    [
        (0.3, [0.31, 0.5], "dark (<0.31)"),
        (0.31, [0.31, 0.5], "medium (0.31 to 0.5)"),
        (0.5, [0.31, 0.5], "bright (>=0.5)"),
        (0.3, [0.31], "dark (<0.31)"),
        (0.31, [0.31], "bright (>=0.31)"),
        (0.3, [], "all"),
    ],
)
def test_a_bucket_says_where_it_begins_and_ends(value: float, boundaries: list[float], words: str) -> None:
    assert slice_features.bucket("brightness", value, boundaries) == words


@pytest.mark.parametrize(
    ("values", "boundaries"),
    [
        (list(range(1, 10)), [4, 7]),
        ([1, 1, 1, 1, 1, 9], []),  # a bucket without images would have no meaning
        ([0, 0, 1, 1, 1, 1], [1]),
        ([7, 7, 7], []),
        ([], []),
    ],
)
def test_buckets_end_where_thirds_of_the_values_do(values: list[float], boundaries: list[float]) -> None:
    assert slice_features.between_thirds(values) == boundaries
