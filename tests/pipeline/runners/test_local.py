import json

import pytest

from core.errors import InputError
from pipeline.runners import local
from pipeline.runs import push_directory, run_dir
from pipeline.runs.outcome import Outcome


@pytest.fixture
def pushed(tmp_path):
    """A push directory with two versions, and the record of the run that pushed the newer."""
    directory = tmp_path / "serving"
    for version in ("1", "2"):
        (directory / version).mkdir(parents=True)
        (directory / version / "saved_model.pb").touch()
    last_run = tmp_path / "last_run.json"
    last_run.write_text(json.dumps({"pushed_model": str(directory / "2")}))
    return directory, last_run


def test_a_cached_push_counts_while_the_version_is_there(pushed):
    assert run_dir.push_nonce(*pushed) == run_dir.push_nonce(*pushed)


def test_a_version_that_was_deleted_is_pushed_again(pushed):
    directory, _ = pushed
    before = run_dir.push_nonce(*pushed)
    (directory / "2" / "saved_model.pb").unlink()
    (directory / "2").rmdir()
    assert run_dir.push_nonce(*pushed) != before


def test_a_version_that_was_rolled_back_stays_aside(pushed):
    directory, _ = pushed
    before = run_dir.push_nonce(*pushed)
    push_directory.rollback(directory)
    assert run_dir.push_nonce(*pushed) == before


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    with run_dir.only_run(tmp_path), pytest.raises(InputError, match="another run is going on"):  # noqa: SIM117
        with run_dir.only_run(tmp_path):
            pass
    with run_dir.only_run(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("3 files cannot be read [while running 'Read']"), 2, "3 files cannot be read"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_whose_fault_a_failed_run_is(error, code, said):
    try:
        raise RuntimeError("the runner's own words") from error
    except RuntimeError as wrapped:
        caught = wrapped if code == 2 else error
    outcome = Outcome("failed", 1, "/root", stages=[{"id": "ImageExampleGen", "seconds": 1.0, "cached": False}])
    local._blame(outcome, caught)
    assert outcome.exit_code == code
    assert outcome.failures == [{"message": said, "stage": "ImageExampleGen"}]
