"""The embedded data set: scikit-learn's 1797 handwritten digits as image files, for a first run without a download."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from core import atomic_io

COUNT = 1797

_SIDE = 32
_INK = 16  # the largest value in the 8 x 8 source images
_DONE = ".complete.json"


def write_digits(directory: str) -> None:
    """Writes `<directory>/<digit>/<number>.png`: gray, 32 x 32 pixels, white on black; the same bytes every time.

    The 8 x 8 originals (UCI's Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998) are enlarged
    bilinearly. The folder appears when it is complete, and one that is complete already is left as it is.

    Raises:
        FileExistsError: the folder holds something else.
    """
    target = Path(directory)
    if (target / _DONE).exists():
        return
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} holds something else than the digits; give another folder")
    with atomic_io.staging_directory(directory) as unfinished:
        _write(Path(unfinished))
        atomic_io.publish(unfinished, directory)  # perhaps in place of the same, of another process


def _write(folder: Path) -> None:
    # Imported here because it takes seconds, and most runs find the digits written.
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        gray = Image.fromarray((pixels * (255 / _INK)).round().astype(np.uint8))
        gray.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).save(folder / str(digit) / f"{number:04d}.png")
    (folder / _DONE).write_text(json.dumps({"images": COUNT}))
