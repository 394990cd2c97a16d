"""Pictures to measure with: a folder's own, more of the same kind, and made-up ones; kept between benchmarks."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".heic", ".tif", ".tiff"}
_CLASSES = 5  # of made-up photos
_STRIDE = 7919  # prime
_WEB = (320, 240)  # pixels of made-up photos: as many of tf_flowers' have
_PHONE = (4000, 3000)
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}

Make = Callable[[int], tuple[Path, Image.Image]]
"""Gives the name and the pixels of the picture of a number."""


def files(folder: Path) -> list[Path]:
    """The picture files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def pattern(seed: int, label: int, size: tuple[int, int]) -> Image.Image:
    """Blurred spots, in colors by which the classes can be told apart."""
    generator = np.random.default_rng([seed, label])
    colors = np.random.default_rng(label).integers(0, 256, (6, 6, 3))
    spots = (colors + generator.integers(0, 256, (6, 6, 3))) // 2
    return Image.fromarray(spots.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def folder_of(
    folder: Path, count: int, make: Make, copies: Sequence[Path] = (), top: Path | None = None, first: int = 0
) -> Path:
    """A folder of so many pictures, kept for the next time: hard links of those given, and made-up ones beyond them.

    Args:
        folder: where it is to be; its name says how the pictures are made, `count` is added to it.
        count: how many pictures.
        make: makes those beyond the ones given.
        copies: pictures that are taken as they are.
        top: the folder below which their names count.
        first: the number of the first that is made.
    """
    folder = folder.with_name(f"{folder.name}-{count}")
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    for path in _spread(copies, count):
        target = making / path.relative_to(top or path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path, target)
    missing = range(first, first + count - min(count, len(copies)))
    with ProcessPoolExecutor() as pool:
        list(pool.map(functools.partial(_write, making, make), missing, chunksize=16))
    return making.rename(folder)


def web_photo(size: tuple[int, int] | None, photos: Sequence[Path], top: Path, number: int) -> tuple[Path, Image.Image]:
    """A part of one of the photos, perhaps mirrored: of `size`, or as large as the photo; without photos a made-up one.

    No two are near-duplicates of each other, or of the photos: each shows another part.
    """
    if not photos:
        return _made_up(number, _CLASSES), pattern(number, number % _CLASSES, size or _WEB)
    source = photos[number * _STRIDE % len(photos)]  # so that few are of all classes, too
    random = np.random.default_rng(number)
    with Image.open(source) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = (round(side * random.uniform(0.5, 0.75)) for side in image.size)
    left, upper = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
    image = image.resize(
        size or image.size, Image.Resampling.BICUBIC, (left, upper, left + width, upper + height), reducing_gap=2.0
    )
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    name = source.relative_to(top)
    return name.with_name(f"{name.stem}-part-{number}.jpg"), image


def phone_photo(photos: Sequence[Path], top: Path, number: int) -> tuple[Path, Image.Image]:
    """12 megapixels with a sensor's noise, turned by EXIF as phones do."""
    name, image = web_photo(_PHONE, photos, top, number)
    pixels = np.asarray(image, np.int16)
    noise = np.random.default_rng(number).integers(-6, 7, pixels.shape, np.int16)
    image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    orientation, turn = list(_TURNS.items())[number % len(_TURNS)]
    turned = image.transpose(turn) if turn else image
    turned.getexif()[_ORIENTATION] = orientation
    return name, turned


def class_of_many(classes: int, side: int, number: int) -> tuple[Path, Image.Image]:
    """The same number of pictures in every class folder."""
    return _made_up(number, classes), pattern(number, number % classes, (side, side))


def few_of_a_class(number: int) -> tuple[Path, Image.Image]:
    """1,000 classes in given splits: of four pictures a class, two are in train."""
    name, image = class_of_many(1000, 32, number)
    return ("train", "val", "test", "train")[number // 1000 % 4] / name, image


def split(photos: Sequence[Path], folder: Path) -> Path:
    """The photos in class folders of train, val and test, for programs that make no splits of their own."""
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        for number, path in enumerate(photos):
            part = "test" if number % 5 == 0 else "val" if number % 10 == 1 else "train"
            target = making / part / path.parent.name / f"{number:06}{path.suffix.lower()}"
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
        making.rename(folder)
    return folder


def _made_up(number: int, classes: int) -> Path:
    return Path(f"class {number % classes:04}", f"{number:06}.jpg")


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly; all, if there are fewer."""
    return [paths[i * len(paths) // count] for i in range(count)] if count < len(paths) else list(paths)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system
        shutil.copyfile(path, target)


def _write(folder: Path, make: Make, number: int) -> None:
    name, image = make(number)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=90, exif=image.getexif())
