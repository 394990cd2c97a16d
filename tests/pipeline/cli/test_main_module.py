"""`python -m pipeline`, however the shell is set up and wherever it is."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_only_packages_of_the_environment_are_imported(tmp_path: Path) -> None:
    for folder in ("elsewhere", "here"):
        for name in ("click", "msgspec", "core"):
            (tmp_path / folder / name).mkdir(parents=True)
            (tmp_path / folder / name / "__init__.py").write_text(f'raise SystemExit("the {name} of {folder}")')
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "history", "--root", str(tmp_path)],
        cwd=tmp_path / "here", env=os.environ | {"PYTHONPATH": "../elsewhere"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: there are no runs in {tmp_path}/digits")


def test_what_a_terminal_cannot_show_ends_no_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "history", "--config", "böse→.yaml"],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "latin-1", "LANG": "C"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: cannot read the settings b")
