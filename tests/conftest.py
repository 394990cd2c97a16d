"""Fixtures that all tests share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from core.loopback import bypass_proxy
from tests.fork_server import ForkServer
from tests.stores import google_credentials, gs, s3, s3_server, store  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# A busy machine is no finding, and a change is never refused for what was there before: `make fuzz` draws anew.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Keeps requests to test servers, which are on this machine, away from any proxy in the environment.

    Collecting tests imports TensorFlow and TFX; garbage collection would take a third of that time and find nothing.
    """
    bypass_proxy()
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on, collects garbage again, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data beside the project; tests that need it are skipped if it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data: {SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """For processes that need TensorFlow and TFX, in tests that are not about their start."""
    with ForkServer() as server:
        yield server


LONG_FIRST = ("e2e", "trainer", "components", "pipeline", "core")
"""The folders by how long their files take: at the end, a long one would have a single core at work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by folder."""
    rank = {name: number for number, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(ROOT / "tests").parts[0], len(rank)))
