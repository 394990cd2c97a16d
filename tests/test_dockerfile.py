"""The Dockerfile against the project: Docker cannot run here, but what the file names can be looked up."""

import importlib.metadata
import re

import pytest

from supply_chain.sbom import ENVIRONMENTS
from tests.conftest import ROOT

Instructions = list[tuple[str, str]]


@pytest.fixture
def instructions() -> Instructions:
    """(instruction, arguments) in order; continued lines are joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines())]


def copied(instructions: Instructions) -> list[str]:
    """What is copied from the project's folder."""
    sources = [rest.split()[:-1] for word, rest in instructions if word == "COPY" and "--from=" not in rest]
    return [source for several in sources for source in several]


def test_whatever_is_copied_exists_and_is_let_through_by_dockerignore(instructions):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for source in copied(instructions):
        assert (ROOT / source).exists() and f"!{source}" in ignored


def test_all_that_the_wheel_needs_is_copied(instructions):
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)"', re.search(r"module-name = \[(.*)\]", project).group(1))
    readme = re.search(r'readme = "(.*)"', project).group(1)
    (license_file,) = re.findall(r'license-files = \["(.*)"\]', project)
    assert {*packages, readme, license_file, "pyproject.toml", "uv.lock", "supply_chain/uv.txt"} == set(
        copied(instructions)
    )


def test_the_environment_comes_from_the_lock_by_the_uv_that_make_uses(instructions):
    (install,) = [rest for word, rest in instructions if word == "RUN" and "pip install" in rest]
    hashed = "--require-hashes --only-binary :all: -r "
    assert f"{hashed}/uv.txt" in install and f"{hashed}supply_chain/uv.txt" in (ROOT / "Makefile").read_text()
    (backend,) = re.findall('"uv_build(==.*)"', (ROOT / "pyproject.toml").read_text())
    assert f"\nuv{backend} " in (ROOT / "supply_chain" / "uv.txt").read_text(), "the one in uv, which is not fetched"
    syncs = [rest for word, rest in instructions if word == "RUN" and "uv sync" in rest]
    assert len(syncs) == 2 and all("--frozen" in sync and " ".join(ENVIRONMENTS["image"]) in sync for sync in syncs)


def test_beams_boot_program_is_of_the_beam_that_is_locked(instructions):
    (image,) = [rest for word, rest in instructions if word == "FROM" and "beam" in rest]
    assert f":{importlib.metadata.version('apache-beam')} " in image


def test_containers_do_not_run_as_root(instructions):
    assert [rest for word, rest in instructions if word == "USER"][-1] == "pipeline"
