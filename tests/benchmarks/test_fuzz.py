"""What strangers may send us: what once did harm, and some new inputs each time. `make fuzz` tries more."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz import runner
from benchmarks.fuzz.target import Target
from tests.conftest import ROOT

CASES = sorted(Path(__file__).with_name("fuzz_cases").glob("*/*"))
CORPUS = ROOT / "benchmarks" / "fuzz" / "corpus"
SEED = 20261130
INPUTS = {"settings": 150, "tables": 800, "records": 500, "images": 150, "decoder": 200, "requests": 150, "rest": 150}


@pytest.fixture(scope="module", params=sorted(runner.TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with contextlib.closing(runner.load_target(request.param)) as made:
        yield made


def test_what_did_harm_does_so_no_more(target: Target) -> None:
    memory = runner.Memory()
    for case in (*CASES, *sorted(CORPUS.glob("*/*"))):  # the corpus reaches most lines
        if case.parent.name == target.name:
            runner.attempt(target, case.read_bytes(), memory)


def test_some_inputs_are_read_or_refused_in_words_and_within_bounds(target: Target) -> None:
    for seed in target.seeds():
        target.attempt(seed)
    memory, outcomes = runner.Memory(), Counter()
    for number in range(INPUTS[target.name]):
        data = runner.make(target, SEED, number)
        try:
            outcomes[runner.attempt(target, data, memory)[0]] += 1
        except Exception as error:
            again = f"python -m benchmarks.fuzz {target.name} --seed {SEED} --first {number} --inputs 1"
            raise AssertionError(f"{runner.words(error)}; once more: {again}") from error
    taken = {"read", "answered"} & outcomes.keys()
    assert taken and len(outcomes) > 1, f"some are taken, some are not: {outcomes}"


def test_the_same_seed_and_number_make_the_same_input() -> None:
    for _ in range(2):
        with contextlib.closing(runner.load_target("tables")) as made:
            assert runner.make(made, 1, 7) == runner.make(made, 1, 7) != runner.make(made, 2, 7)


def test_cases_lie_in_folders_of_targets() -> None:
    assert CASES and {case.parent.name for case in CASES} <= runner.TARGETS.keys()
