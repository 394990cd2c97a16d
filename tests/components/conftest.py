"""Small real images in class folders, for the components that read them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, width: int = 24, height: int = 16) -> Image.Image:
    """A random picture, smooth enough for JPEG, with no symmetry."""
    coarse = np.random.RandomState(seed).randint(0, 255, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def detailed(seed: int, width: int = 120, height: int = 80) -> Image.Image:
    """A random picture with detail, as a photo has."""
    grain = np.random.RandomState(seed).randint(0, 255, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a data folder: `image_folder(cat=30, dog=20)` writes so many different PNGs into each class folder."""

    def make(name: str = "images", **classes: int) -> Path:
        folder = tmp_path / name
        for place, (label, number) in enumerate(sorted(classes.items())):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                (folder / label / f"{i:04d}.png").write_bytes(encoded(picture(1000 * place + i)))
        return folder

    return make
