"""Threads that read images: their order, how far they go ahead, and how many pixels they hold."""

import threading
import time
from collections.abc import Iterator

import pytest

from components.ingestion import parallel
from core.image_limits import DEFAULT_LIMITS


def test_results_are_in_order_and_few_are_ahead_of_what_is_taken() -> None:
    given = []

    def numbers() -> Iterator[int]:
        for number in range(200):
            given.append(number)
            yield number

    def slow_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    found = []
    for result in parallel.ordered_map(slow_first, numbers()):
        found.append(result)
        assert len(given) - len(found) <= 16
    assert found == [number * number for number in range(200)]


def test_an_error_is_raised_where_its_result_would_be() -> None:
    results = parallel.ordered_map(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_images_share_the_pixels_of_one_of_the_largest_and_a_larger_one_is_alone() -> None:
    held, most, together = [0], [0], [0]
    lock = threading.Lock()
    sizes = [DEFAULT_LIMITS.pixels * share // 10 for share in (4, 4, 4, 4, 20, 4, 4, 10, 1, 1)]

    def read(pixels: int) -> None:
        with parallel.room(pixels):
            with lock:
                held.append(pixels)
                most.append(sum(held) if pixels <= DEFAULT_LIMITS.pixels else 0)
                together.append(len(held) - 1)
                assert pixels <= DEFAULT_LIMITS.pixels or held == [0, pixels]
            time.sleep(0.02)
            with lock:
                held.remove(pixels)

    threads = [threading.Thread(target=read, args=(pixels,)) for pixels in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert held == [0]
    assert 0 < max(most) <= DEFAULT_LIMITS.pixels
    assert max(together) >= 2
