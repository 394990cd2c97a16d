"""What large photos, many images and many classes cost, stage by stage: the table of docs/data.md.

    .venv/bin/python benchmarks/data_scale.py photos classes "10 a class" many --photos ../shared/data/flowers_500

Makes the data of each case, runs the whole pipeline on them, and prints the seconds (and CPU seconds) of every stage,
the peak memory of any process and the size of the report, of all cases that were run. `--images` makes a case smaller.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclasses.dataclass(frozen=True)
class Case:
    """Data of one kind; `make` writes so many images into a folder of class or split folders."""

    about: str
    images: int
    make: Callable[[Path, int, list[Path]], None]
    settings: str


def pattern(seed: int, label: int, side: int) -> Image.Image:
    """Blurred spots, in colors by which the classes can be told apart."""
    generator = np.random.default_rng([seed, label])
    colors = np.random.default_rng(label).integers(0, 256, (6, 6, 3))
    spots = (colors + generator.integers(0, 256, (6, 6, 3))) // 2
    return Image.fromarray(spots.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, **options: Any) -> None:
    """Writes a JPEG, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", **options)


def phone_photos(folder: Path, count: int, photos: list[Path]) -> None:
    """12-megapixel JPEGs with sensor noise, turned by EXIF as phones do: of these photos, or of made-up ones."""
    for number in range(count):
        label = number % 5
        if photos:
            source = photos[number * len(photos) // count]
            name, image = source.parent.name, Image.open(source).convert("RGB")
        else:
            name, image = f"class {label}", pattern(number, label, 400)
        pixels = np.asarray(image.resize((4000, 3000), Image.Resampling.BICUBIC), np.int16)
        noise = np.random.default_rng(number).integers(-6, 7, pixels.shape, np.int16)
        image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
        orientation, turn = list(TURNS.items())[number % len(TURNS)]
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        save(folder / name / f"IMG_{number:04}.jpg", image.transpose(turn) if turn else image, quality=90, exif=exif)


def class_folders(folder: Path, count: int, classes: int, side: int) -> None:
    """The same number of images in every class folder."""
    for number in range(count):
        label = number % classes
        save(folder / f"class {label:04}" / f"{number:06}.jpg", pattern(number, label, side), quality=90)


def few_a_class(folder: Path, count: int, photos: list[Path]) -> None:
    """1,000 classes in given splits: of four images a class, two are in train."""
    del photos
    splits = ("train", "val", "test", "train")
    for number in range(count):
        label = number % 1000
        path = folder / splits[number // 1000 % 4] / f"class {label:04}" / f"{number:06}.jpg"
        save(path, pattern(number, label, 32), quality=90)


SMALL = "backbone.image_size=75 training.steps=60 training.eval_every=30"
CASES = {
    "photos": Case("photos of 12 megapixels, 299 px", 100, phone_photos, "training.steps=60 training.eval_every=30"),
    "many": Case(
        "images in 10 classes, 75 px", 100_000, lambda folder, count, _: class_folders(folder, count, 10, 75), SMALL
    ),
    "classes": Case("images in 1,000 classes, 4 in each, 75 px", 4000, few_a_class, SMALL),
    "10 a class": Case(
        "images in 1,000 classes, 10 in each, 75 px",
        10_000,
        lambda folder, count, _: class_folders(folder, count, 1000, 75),
        SMALL,
    ),
}


def run(root: Path, name: str, count: int, photos: list[Path], extra: str) -> dict[str, Any]:
    """The record of one run of the pipeline, with the peak memory of any of its processes."""
    case, folder = CASES[name], root / name.replace(" ", "-")
    data = folder / f"images-{count}"
    if not data.is_dir():
        case.make(data, count, photos)
    settings = folder / "settings.yaml"
    settings.write_text(
        f"name: scale\ndata: {{images: {data}, schema: {folder}/schema.pbtxt}}\nbackbone: {{weights: random}}\n"
    )
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(settings), "--root", str(folder)]
    command += ["--set", case.settings, *(["--set", extra] if extra else [])]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=PROJECT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    record = json.loads((folder / "scale" / "last_run.json").read_text())
    return {
        "case": f"{record['images']['read']:,} {case.about}",
        "exit code": process.returncode,
        "stages": {stage["id"]: (stage["seconds"], stage["cpu_seconds"]) for stage in record["stages"]},
        "whole run": (time.monotonic() - began, usage.ru_utime + usage.ru_stime),
        "peak memory, MB": usage.ru_maxrss // 1024,
        "report, MB": round(Path(record["report"]).stat().st_size / 2**20, 1),
    }


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a line a stage, a column a case."""
    yield "| seconds (CPU seconds) | " + " | ".join(record["case"] for record in records) + " |"
    yield "|---|" + "---:|" * len(records)
    stages = dict.fromkeys(name for record in records for name in record["stages"])
    slow = [name for name in stages if any(record["stages"].get(name, (0, 0))[0] >= 1 for record in records)]
    for name in slow:
        yield f"| {name} | " + " | ".join(spent(record["stages"].get(name)) for record in records) + " |"
    yield "| **whole run** | " + " | ".join(spent(record["whole run"]) for record in records) + " |"
    for name in ("peak memory, MB", "report, MB"):
        yield f"| **{name}** | " + " | ".join(f"{record[name]:,}" for record in records) + " |"


def spent(seconds: tuple[float, float] | None) -> str:
    """`12 (9)`."""
    return "" if seconds is None else f"{seconds[0]:,.0f} ({seconds[1] or 0:,.0f})"


def main() -> None:
    """Runs the cases that are named, and prints the table of all that were."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--photos", type=Path, help="a folder of class folders, to make the large photos of")
    parser.add_argument("--images", type=int, help="how many, instead of each case's own number")
    parser.add_argument("--set", default="", help="settings, as of the pipeline")
    parser.add_argument("--root", type=Path, default=PROJECT / "build" / "data-scale")
    options = parser.parse_args()
    photos = sorted(options.photos.glob("*/*.jpg")) if options.photos else []
    for name in options.cases:
        count = options.images or CASES[name].images
        record = run(options.root.resolve(), name, count, photos, options.set)
        kept = options.root / "records" / f"{list(CASES).index(name)}-{count}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(record, indent=1))
    print(
        "\n".join(table([json.loads(kept.read_text()) for kept in sorted((options.root / "records").glob("*.json"))]))
    )


if __name__ == "__main__":
    main()
