"""Pictures that are added to a folder's own are new to the pipeline, and stay in their class."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import pictures
from components.ingestion import near_duplicates


def test_parts_of_photos_are_no_near_duplicates(tmp_path: Path) -> None:
    top = tmp_path / "photos"
    for number in range(6):
        path = top / "train" / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        grain = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(grain).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    photos = pictures.files(top)
    make = functools.partial(pictures.web_photo, None, photos, top)
    found = pictures.files(pictures.folder_of(tmp_path / "web", 40, make, photos, top))
    assert len(found) == 40
    assert {path.parent.relative_to(tmp_path / "web-40") for path in found} == {
        p.parent.relative_to(top) for p in photos
    }
    described = [near_duplicates.describe(Image.open(path)) for path in found]
    hashes = np.array([one[0] for one in described if one], np.uint64)
    thumbnails = np.stack([np.frombuffer(one[1], np.uint8) for one in described if one])
    assert len(hashes) == 40
    assert not len(near_duplicates.pairs(hashes, thumbnails, 6))


def test_fewer_pictures_are_taken_evenly(tmp_path: Path) -> None:
    top = tmp_path / "photos"
    for number in range(10):
        path = top / f"class {number // 5}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    few = pictures.folder_of(
        tmp_path / "web", 4, lambda number: (Path(), Image.new("L", (1, 1))), pictures.files(top), top
    )
    assert [path.name for path in pictures.files(few)] == ["0.jpg", "2.jpg", "5.jpg", "7.jpg"]
