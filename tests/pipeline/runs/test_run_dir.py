import pytest

from core.artifacts.last_run import LAST_RUN, Outcome
from pipeline.runs import push_directory, run_dir


@pytest.fixture
def pushed(tmp_path):
    """A push directory with two versions, and the folder with the record of the run that pushed the newer."""
    directory = tmp_path / "serving"
    for version in ("1", "2"):
        (directory / version).mkdir(parents=True)
        (directory / version / "saved_model.pb").touch()
    LAST_RUN.write(tmp_path, Outcome("pushed", 0, "/root", pushed_model=str(directory / "2")))
    return directory, tmp_path


def nonce(directory, folder, warn=pytest.fail):
    return run_dir.push_nonce(directory, run_dir.read_last(folder, warn))


def test_a_cached_push_counts_while_the_version_is_there(pushed):
    assert nonce(*pushed) == nonce(*pushed)


def test_a_version_that_was_deleted_is_pushed_again(pushed):
    directory, _ = pushed
    before = nonce(*pushed)
    (directory / "2" / "saved_model.pb").unlink()
    (directory / "2").rmdir()
    assert nonce(*pushed) != before


def test_a_version_that_was_rolled_back_stays_rolled_back(pushed):
    directory, _ = pushed
    before = nonce(*pushed)
    push_directory.rollback(directory)
    assert nonce(*pushed) == before


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "pushed"}', '{"schema_version": 1}', "\udcff"])
def test_a_record_that_cannot_be_read_stops_no_run_and_is_said(pushed, content):
    _, folder = pushed
    before = nonce(*pushed)
    (folder / "last_run.json").write_text(content, errors="surrogateescape")
    said = []
    assert nonce(*pushed, said.append) == before
    assert len(said) == 1 and "last_run.json" in said[0] and "was not used" in said[0]
