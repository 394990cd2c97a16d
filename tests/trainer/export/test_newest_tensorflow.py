"""The exported file loads in TensorFlow's newest release, which has no Estimators, and answers the same there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.trainer import probabilities, training_data
from tests.trainer.images import bad_images
from trainer.export.tflite import Converter

pytestmark = [pytest.mark.ports, pytest.mark.timeout(3600)]

NEWEST = "2.21.0"
"""The newest with wheels for this Python (March 2026)."""

ENVIRONMENT = ROOT / ".venv-newest-tensorflow"


@pytest.fixture(scope="module")
def newest_python() -> str:
    """The interpreter of an environment that has this TensorFlow and nothing of ours; made once, and kept."""
    made = ENVIRONMENT / f"made-{NEWEST}"
    if not made.exists():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        make_environment(ENVIRONMENT, [f"tensorflow-cpu=={NEWEST}"])
        made.touch()
    return str(ENVIRONMENT / "bin" / "python")


def make_environment(folder: Path, packages: list[str]) -> Path:
    """Makes an environment with these packages, as pip is given them; returns the folder of its programs."""
    uv = shutil.which(ROOT / ".venv-uv" / "bin" / "uv") or shutil.which("uv")
    if uv is None:
        pytest.skip("there is no uv to make an environment with: run make setup")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *packages],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode and any(word in done.stderr for word in ("client error", "connect", "dns", "timed out")):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def photos() -> list[bytes]:
    """Photos if there are any, else images of noise; of all formats, and bad ones among them."""
    found = sorted((ROOT.parent / "shared" / "data" / "flowers_500").rglob("*.jpg"))[:12]
    files = [path.read_bytes() for path in found] or [training_data.image("red", seed) for seed in range(12)]
    others = [bad_images.encoded(kind, seed=1) for kind in ("PNG", "GIF", "BMP")]
    progressive = bad_images.encoded("JPEG", seed=2, progressive=True)
    return [*files, *others, progressive, files[0][:-2000], b"", b"text", bad_images.encoded("WEBP", seed=3)]


def answers(python: str, model: Path, images: Path, *tflite: Path) -> dict:
    done = subprocess.run(
        [python, probabilities.__file__, str(model), str(images), *map(str, tflite)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_probabilities_and_errors_are_those_of_the_tensorflow_it_was_trained_with(
    newest_python: str, frozen_run: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images.npz"
    np.savez(images, images=np.array(photos(), dtype=object))
    model = frozen_run / "Format-Serving"

    converter = Converter(str(model), photos()[:12])
    files = [tmp_path / f"{name}.tflite" for name in ("float16", "int8")]
    for file in files:
        file.write_bytes(converter.convert("tflite-float16" if file.stem == "float16" else "tflite-int8"))

    ours, newest = (answers(python, model, images, *files) for python in (sys.executable, newest_python))

    assert newest["tensorflow"] == NEWEST and ours["tensorflow"] != NEWEST
    for loader in ("1", "2"):
        assert newest[loader]["error"] == ours["1"]["error"]
        np.testing.assert_allclose(newest[loader]["probabilities"], ours["1"]["probabilities"], atol=1e-5)
    logits = np.array(ours["1"]["logits"])
    np.testing.assert_allclose(newest["1"]["logits"], logits, rtol=1e-4, atol=1e-4)
    assert np.ptp(logits[:12, 0]) > 1  # the images are told apart, where probabilities may all be 0 or 1
    assert [bool(error) for error in ours["1"]["error"]] == [False] * 16 + [True] * 4
    good = np.array(ours["2"]["probabilities"])[:16]
    for found in (ours["2"], newest["2"]):
        np.testing.assert_allclose(found["pixels"], good, atol=1e-4)
        np.testing.assert_allclose(found["embedding"], ours["2"]["embedding"], rtol=1e-3, atol=1e-3)
        half, integers = (np.array(found[str(file)]) for file in files)
        np.testing.assert_allclose(half, good, atol=0.05)
        assert (integers.argmax(1) == good.argmax(1)).mean() > 0.7
