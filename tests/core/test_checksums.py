"""Whether a model's files are those that were exported: at a glance by names and sizes, and byte by byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import atomic_io, checksums
from tests.small_model import cut, flip, write_model


def test_a_whole_model_is_complete_and_verified_here_and_by_sha256sum(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (model / "model_card.md").write_text("not listed")
    assert checksums.is_complete(str(model)) and checksums.verify(str(model)) == "3 files, 0.0 MB"
    command = ["sha256sum", "--check", "--strict", checksums.CHECKSUMS]
    done = subprocess.run(command, cwd=model, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK") == 3 and not done.stderr


@pytest.mark.parametrize(
    ("damage", "complete", "said"),
    [
        ("flip", True, "variables/variables.index is damaged"),
        ("cut", False, "variables/variables.index is damaged"),
        ("miss", False, "variables/variables.index is missing"),
        ("no list", False, "there is no assets.extra/SHA256SUMS in"),
        ("cut list", False, "assets.extra/SHA256SUMS is damaged"),
        ("more", True, "variables/more is not in"),
    ],
)
def test_what_is_not_the_export_is_noticed(damage: str, complete: bool, said: str, tmp_path: Path) -> None:
    model = write_model(tmp_path)
    listed = model / checksums.CHECKSUMS
    if damage == "flip":
        flip(model)
    elif damage == "cut":
        cut(model)
    elif damage == "miss":
        (model / "variables" / "variables.index").unlink()
    elif damage == "no list":
        listed.unlink()
    elif damage == "cut list":
        listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:-1]))
    else:
        (model / "variables" / "more").touch()
    assert checksums.is_complete(str(model)) is complete
    with pytest.raises(checksums.DamagedModelError, match=said):
        checksums.verify(str(model))


def test_other_exports_have_no_checksums(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    assert checksums.verify_if_listed(str(model))
    shutil.rmtree(model / "assets.extra")
    assert not checksums.verify_if_listed(str(model)) and checksums.listed(str(model)) is None


def test_a_local_model_is_verified_without_tensorflow(tmp_path: Path) -> None:
    """It would make `run` take seconds to say that nothing has changed."""
    code = "import sys; from core import checksums; checksums.verify(sys.argv[1]); print(sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code, write_model(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "tensorflow" not in done.stdout


def test_a_model_that_the_disk_does_not_give_back_is_no_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path)
    assert checksums.problem(str(model)) == ""

    def fail(path: str, mode: str) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(atomic_io, "open_file", fail)
    assert checksums.problem(str(model))
