"""The served decoder meets damaged images by the thousand: no crash, no hang, no gigabytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.image_limits import ImageLimits
from tests.conftest import ROOT
from trainer.images import tolerant_decoding as decoding

INPUTS = 1_500

MESSAGES = {
    decoding.EMPTY,
    decoding.TOO_LARGE,
    decoding.UNKNOWN,
    decoding.TOO_MANY_PARTS,
    decoding.PALETTE,
    decoding.DAMAGED,
    decoding.too_many_pixels(ImageLimits(max_megapixels=1)),  # those of `frozen_run`
}
"""What docs/serving.md explains."""


@pytest.mark.slow
def test_damaged_images_of_every_format_neither_stop_nor_spoil_nor_exhaust_the_model(frozen_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/fuzz_serving.py", frozen_run / "Format-Serving", f"--inputs={INPUTS}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["inputs"] >= INPUTS
    assert min(found["answered"], sum(found["errors"].values())) > INPUTS / 10  # some are read, some are not
    assert set(found["errors"]) <= MESSAGES
    assert found["slowest"] < 20
    assert found["grown_mb"] < 1_500
