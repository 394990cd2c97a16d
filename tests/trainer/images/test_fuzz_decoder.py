"""The served decoder meets damaged images by the thousand: no crash, no hang, no gigabytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz.target import MODEL
from core.image_limits import ImageLimits
from tests.conftest import ROOT
from trainer.images import tolerant_decoding as decoding

INPUTS = 600

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
def test_damaged_images_of_every_format_neither_stop_nor_spoil_nor_exhaust_the_model(
    frozen_run: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", "decoder", f"--inputs={INPUTS}", "--found", tmp_path],
        cwd=ROOT,
        env=os.environ | {MODEL: str(frozen_run / "Format-Serving"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    answered = found["outcomes"].pop("answered")
    assert found["inputs"] == INPUTS
    assert min(answered, sum(found["outcomes"].values())) > INPUTS / 10  # some are read, some are not
    assert set(found["outcomes"]) <= MESSAGES
