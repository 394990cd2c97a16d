from pathlib import Path

import pytest

from core.artifacts.last_run import LAST_RUN, Outcome
from core.errors import InputError
from core.settings import Settings
from core.settings.data import DataSettings
from core.settings.push import PushSettings
from pipeline.runs import run_dir


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "pushed"}', '{"schema_version": 1}', "\udcff"])
def test_a_record_that_cannot_be_read_stops_no_run_and_is_said(tmp_path, content):
    LAST_RUN.write(tmp_path, Outcome("pushed", 0, "/root"))
    assert run_dir.read_last(tmp_path, pytest.fail).status == "pushed"
    (tmp_path / "last_run.json").write_text(content, errors="surrogateescape")
    said = []
    assert run_dir.read_last(tmp_path, said.append) is None
    assert len(said) == 1 and "last_run.json" in said[0] and "was not used" in said[0]


@pytest.mark.parametrize(
    ("directory", "folder"),
    [
        ("serving/", "{root}/birds/serving"),
        ("/models", "/models"),
        ("gs://bucket/models/birds/", "gs://bucket/models/birds"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_models_are_pushed_to_a_folder_or_a_bucket(directory: str, folder: str, tmp_path: Path) -> None:
    settings = Settings(name="birds", data=DataSettings("photos"), push=PushSettings(directory))
    assert run_dir.push_folder(settings, tmp_path) == folder.format(root=tmp_path)


@pytest.mark.parametrize(
    "directory", ["gs://", "gs:///x", "ftp://server/x", "s3://bucket/a*", "gs://bucket/a//b", "gs://b/[x]"]
)
def test_a_push_directory_that_no_store_knows_is_told(directory: str, tmp_path: Path) -> None:
    settings = Settings(name="birds", data=DataSettings("photos"), push=PushSettings(directory))
    with pytest.raises(InputError, match=r"push.directory is .*: give a folder of this machine, gs://bucket/folder or"):
        run_dir.push_folder(settings, tmp_path)
