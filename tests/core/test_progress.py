import logging

import pytest

from core import progress
from core.progress import ProgressCounter


def test_reports_the_first_and_the_last_of_a_quick_run(caplog: pytest.LogCaptureFixture) -> None:
    counter = ProgressCounter(1000, "images", "float32")
    with caplog.at_level(logging.INFO, progress.LOGGER_NAME):
        for _ in range(500):
            counter.add(2)
    said = [record.progress["done"] for record in caplog.records]
    assert (said[0], said[-1]) == (2, 1000)
    assert len(said) < 10
    assert caplog.records[0].getMessage() == "2/1000 images float32"
