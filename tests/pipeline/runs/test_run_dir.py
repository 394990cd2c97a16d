import pytest

from core.artifacts.last_run import LAST_RUN, Outcome
from pipeline.runs import run_dir


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "pushed"}', '{"schema_version": 1}', "\udcff"])
def test_a_record_that_cannot_be_read_stops_no_run_and_is_said(tmp_path, content):
    LAST_RUN.write(tmp_path, Outcome("pushed", 0, "/root"))
    assert run_dir.read_last(tmp_path, pytest.fail).status == "pushed"
    (tmp_path / "last_run.json").write_text(content, errors="surrogateescape")
    said = []
    assert run_dir.read_last(tmp_path, said.append) is None
    assert len(said) == 1 and "last_run.json" in said[0] and "was not used" in said[0]
