"""How many changed pictures are found to be near-duplicates, and how many different ones are taken for such.

    .venv/bin/python benchmarks/near_duplicates.py --data ../shared/data/flowers_500

For scikit-learn's digits, as ingestion writes them, and for the photos in and below a folder: how many
different pictures are taken for the same as another, and for each change, how many of the changed pictures are tied to
their originals, all of them looked at together as ingestion does. Prints docs/data.md's table;
`tests/components/ingestion/test_near_duplicates.py` demands a little less.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from components.ingestion import near_duplicates
from components.ingestion.digits import write_digits
from components.ingestion.image_reading import upright

Change = Callable[[Image.Image], Image.Image]


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """The picture, saved and read again."""
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality)
    return Image.open(target)


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    """The picture at another size."""
    size = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize(tuple(size), Image.Resampling.BILINEAR)


def cropped(picture: Image.Image, part: float) -> Image.Image:
    """What is left when this part of the sides' length is cut off, half of it at each end; a pixel there at least."""
    return ImageOps.crop(picture, tuple(max(1, round(side * part / 2)) for side in (*picture.size, *picture.size)))


CHANGES: dict[str, Change] = {
    "JPEG of quality 30": lambda picture: as_jpeg(picture, 30),
    "half the size": lambda picture: scaled(picture, 0.5),
    "twice the size": lambda picture: scaled(picture, 2),
    "grey": lambda picture: picture.convert("L"),
    "brighter by 20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "darker by 20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "20 % more contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.2),
    "cropped by 2 %": lambda picture: cropped(picture, 0.02),
    "cropped by 10 %": lambda picture: cropped(picture, 0.1),
    "mirrored": ImageOps.mirror,
}


def digits() -> list[tuple[str, Image.Image]]:
    """The embedded data set."""
    with tempfile.TemporaryDirectory() as folder:
        write_digits(f"{folder}/digits")
        return _read(Path(folder) / "digits")


def photos(folder: Path) -> list[tuple[str, Image.Image]]:
    """All pictures in and below a folder, by their paths in it."""
    return _read(folder)


def tied(pictures: Sequence[Image.Image], distance: int) -> np.ndarray:
    """A number for each picture, the same for those that ingestion would keep in one split: int64 [n]."""
    described = [near_duplicates.describe(picture) for picture in pictures]
    places = np.array([place for place, one in enumerate(described) if one], np.int64)
    hashes = np.array([one[0] for one in described if one], np.uint64)
    thumbnails = np.frombuffer(b"".join(one[1] for one in described if one), np.uint8)
    edges = near_duplicates.pairs(hashes, thumbnails.reshape(len(places), near_duplicates.THUMBNAIL**2), distance)
    return near_duplicates.components(len(pictures), places[edges])


def found(pictures: Sequence[Image.Image], change: Change, distance: int) -> float:
    """The part of the pictures that, changed, are tied to what they were."""
    groups = tied([*pictures, *map(change, pictures)], distance)
    return float((groups[: len(pictures)] == groups[len(pictures) :]).mean())


def _read(folder: Path) -> list[tuple[str, Image.Image]]:
    pictures = []
    for path in sorted(path for path in folder.rglob("*.*") if path.suffix in (".png", ".jpg", ".jpeg")):
        with Image.open(path) as image:
            pictures.append((path.relative_to(folder).as_posix(), upright(image)))
    return pictures


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, no two of them the same")
    parser.add_argument("--distance", type=int, default=6, help="data.near_duplicates.distance")
    given = parser.parse_args()
    sets = {"digits": digits(), "photos": photos(given.data)}
    pictures = {name: [picture for _, picture in one] for name, one in sets.items()}
    groups = {name: np.bincount(tied(one, given.distance)) for name, one in pictures.items()}
    print(f"| | {' | '.join(f'{len(one):,} {name}' for name, one in pictures.items())} |")
    print("|---|" + "---|" * len(sets))
    print(f"| different, and taken for the same | {' | '.join(str(n[n > 1].sum()) for n in groups.values())} |")
    for name, change in CHANGES.items():
        shares = (found(one, change, given.distance) for one in pictures.values())
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
