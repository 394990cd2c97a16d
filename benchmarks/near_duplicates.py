"""How many changed images are found to be near-duplicates, and how many different ones are taken for such.

    .venv/bin/python benchmarks/near_duplicates.py --data ../shared/data/flowers_500

For scikit-learn's digits, as ingestion writes them, and for the photos in and below a folder: how many
different images are taken for the same as another, and for each change, how many of the changed images are tied to
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


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image, saved and read again."""
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return Image.open(target)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """The image at another size."""
    size = (max(1, round(side * factor)) for side in image.size)
    return image.resize(tuple(size), Image.Resampling.BILINEAR)


def cropped(image: Image.Image, fraction: float) -> Image.Image:
    """What is left when this fraction of the sides is cut off, half of it at each end; a pixel at least."""
    return ImageOps.crop(image, tuple(max(1, round(side * fraction / 2)) for side in (*image.size, *image.size)))


CHANGES: dict[str, Change] = {
    "JPEG of quality 30": lambda image: as_jpeg(image, 30),
    "half the size": lambda image: scaled(image, 0.5),
    "twice the size": lambda image: scaled(image, 2),
    "gray": lambda image: image.convert("L"),
    "brighter by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "20 % more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "cropped by 2 %": lambda image: cropped(image, 0.02),
    "cropped by 10 %": lambda image: cropped(image, 0.1),
    "mirrored": ImageOps.mirror,
}


def digits() -> list[tuple[str, Image.Image]]:
    """The embedded data set."""
    with tempfile.TemporaryDirectory() as folder:
        write_digits(f"{folder}/digits")
        return _read(Path(folder) / "digits")


def photos(folder: Path) -> list[tuple[str, Image.Image]]:
    """All images in and below a folder, by their paths in it."""
    return _read(folder)


def tied(images: Sequence[Image.Image], distance: int) -> np.ndarray:
    """A number for each image, the same for those that ingestion would keep in one split: int64 [n]."""
    described = [near_duplicates.describe(image) for image in images]
    places = np.array([place for place, one in enumerate(described) if one], np.int64)
    hashes = np.array([one[0] for one in described if one], np.uint64)
    thumbnails = np.frombuffer(b"".join(one[1] for one in described if one), np.uint8)
    shape = len(places), near_duplicates.THUMBNAIL**2
    groups = np.arange(len(images), 2 * len(images))  # those of one color, alone
    groups[places], _ = near_duplicates.groups(hashes, thumbnails.reshape(shape), distance, len(images))
    return groups


def found(images: Sequence[Image.Image], change: Change, distance: int) -> float:
    """The fraction of the images that, changed, are tied to what they were."""
    groups = tied([*images, *map(change, images)], distance)
    return float((groups[: len(images)] == groups[len(images) :]).mean())


def _read(folder: Path) -> list[tuple[str, Image.Image]]:
    images = []
    for path in sorted(path for path in folder.rglob("*.*") if path.suffix in (".png", ".jpg", ".jpeg")):
        with Image.open(path) as image:
            images.append((path.relative_to(folder).as_posix(), upright(image)))
    return images


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, no two of them the same")
    parser.add_argument("--distance", type=int, default=6, help="data.near_duplicates.distance")
    given = parser.parse_args()
    sets = {"digits": digits(), "photos": photos(given.data)}
    images = {name: [image for _, image in one] for name, one in sets.items()}
    groups = {name: np.bincount(tied(one, given.distance)) for name, one in images.items()}
    print(f"| | {' | '.join(f'{len(one):,} {name}' for name, one in images.items())} |")
    print("|---|" + "---|" * len(sets))
    print(f"| different, and taken for the same | {' | '.join(str(n[n > 1].sum()) for n in groups.values())} |")
    for name, change in CHANGES.items():
        shares = (found(one, change, given.distance) for one in images.values())
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
