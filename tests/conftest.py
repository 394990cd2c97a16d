"""Fixtures all tests share."""

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
    """Servers that tests start are on this machine, whatever proxy the shell names.

    Collecting imports all of the stack, a third of which time would go into looking for garbage, and there is none.
    """
    bypass_proxy()
    gc.disable()


def pytest_collection_finish() -> None:
    """What tests leave is looked for, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test data beside the project; tests that need it skip where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data: {SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """For processes that need the stack, but whose start is not what a test is about."""
    with ForkServer() as server:
        yield server


LONG_FIRST = ("e2e", "trainer", "components", "pipeline", "core")
"""The folders by how long their files take: at the end, a long one would have a single core at work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by folder."""
    rank = {name: number for number, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(ROOT / "tests").parts[0], len(rank)))
