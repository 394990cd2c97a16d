"""Real photos and real weights: the accuracy and the memory that the README states."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_500_photos_make_a_pushed_model_that_is_right_nine_times_in_ten(shared, tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "pipeline", "run", "--root", str(tmp_path), "--config", "configs/flowers.yaml",
            "--data", str(shared / "data" / "flowers_500"),
            "--weights", str(shared / "weights" / "inception_v3_imagenet_partial_notop.h5"),
            "--set", "backbone.output=mixed8",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "flowers" / "last_run.json").read_text())
    assert record["status"] == "pushed"
    assert record["metrics"]["accuracy"]["overall"] >= 0.9
    assert record["images"]["read"] == 500
    assert record["peak_rss_mb"] < 3000
