"""Fuzzes the decoder of an exported model: real images of every format, truncated, spliced and with flipped bits.

    python benchmarks/fuzz_serving.py MODEL_DIR --inputs 20000 --seed 1

Every request holds one good image among the mutated ones; its prediction must be the one it gets among good ones, but
for rounding (1e-6), and no request may be refused. A crash or a hang ends this process, so run it as one. Prints a JSON
object: `inputs`, how many were `answered` and how many got which `errors`, `seconds`, the `slowest` request in seconds,
and by how many MB memory has grown.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from components.serving.served_model import ServedModel, errors_of
from components.serving.serving_checks import peak_rss_mb
from core import signatures

BATCH = 32
"""Images in a request, the good one included."""

COMPARED = 8
"""The predictions of one request in so many are compared; of the others only the errors are asked for: faster."""

FORMATS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("L", "JPEG", {"quality": 40}),
    ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("P", "PNG", {}),
    ("1", "PNG", {}),
    ("I;16", "PNG", {}),
    ("P", "GIF", {}),
    ("RGB", "BMP", {}),
    ("P", "BMP", {}),
    ("RGB", "WEBP", {}),
    ("RGB", "TIFF", {}),
)
"""Mode, format and options of Pillow."""


def images() -> list[bytes]:
    """Crops of scikit-learn's two photos in every format; animations among them."""
    found = []
    for name in ("china.jpg", "flower.jpg"):
        photo = Image.fromarray(load_sample_image(name)).resize((160, 107))
        for mode, kind, options in FORMATS:
            grey = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)
            found.append(_encoded(grey if mode == "I;16" else photo.convert(mode), kind, **options))
        turned = Image.Exif()
        turned[0x0112] = 6
        found.append(_encoded(photo, "JPEG", exif=turned))
        frames = [photo.rotate(angle).convert("P") for angle in (90, 180)]
        found.append(_encoded(photo.convert("P"), "GIF", save_all=True, append_images=frames))
    return found


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def mutated(seeds: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Endless damage: one to three kinds of it on each file."""
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(max(1, len(data)))
            near = chance.randrange(max(1, min(len(data), 200)))  # where headers are
            run = chance.randint(1, 64)
            kind = chance.randrange(7)
            if kind == 0:
                del data[place:]
            elif kind == 1:
                for _ in range(chance.randint(1, 20)):
                    if data:
                        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            elif kind == 2:
                data[near : near + 1] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
            elif kind == 3:
                data[place : place + run] = bytes([chance.choice((0, 0xFF))]) * run
            elif kind == 4:
                data[place:place] = chance.randbytes(run)
            elif kind == 5:
                data[place:place] = data[near : near + 16 * run]
            else:
                other = chance.choice(seeds)
                data[place:] = other[chance.randrange(len(other)) :]
        yield bytes(data)


def fuzz(model_dir: str, inputs: int, seed: int) -> dict[str, object]:
    """Sends so many mutated images to a model.

    Raises:
        AssertionError: a good image's prediction was not the one it gets among good ones.
        tf.errors.OpError: a request was refused.
    """
    chance = random.Random(seed)
    seeds = images()
    damaged = mutated(seeds, chance)
    errors: collections.Counter[str] = collections.Counter()
    with ServedModel(model_dir) as model:
        ((name, _),) = model.signatures[signatures.IMAGES].inputs.items()

        def ask(files: list[bytes], *outputs: str) -> dict[str, np.ndarray]:
            return model.run(signatures.IMAGES, {name: np.array(files, dtype=object)}, outputs)

        wanted = ask([seeds[0]] * BATCH)["probabilities"][0]
        before, began, slowest = peak_rss_mb(), time.monotonic(), 0.0
        for number in range(-(-inputs // (BATCH - 1))):
            files = [next(damaged) for _ in range(BATCH - 1)]
            place = chance.randrange(BATCH)
            files.insert(place, seeds[0])
            start = time.monotonic()
            response = ask(files) if number % COMPARED == 0 else ask(files, signatures.ERROR)
            slowest = max(slowest, time.monotonic() - start)
            found = errors_of(response)
            if "probabilities" in response:
                # But for rounding: a matrix's last rows may go through other kernels than its first.
                np.testing.assert_allclose(response["probabilities"][place], wanted, rtol=0, atol=1e-6)
                assert np.isfinite(response["probabilities"]).all()
            assert found.pop(place) == "", "the good image was not read"
            errors.update(found)
        answered = errors.pop("", 0)
        return {
            "inputs": answered + errors.total(),
            "answered": answered,
            "errors": dict(errors),
            "seconds": round(time.monotonic() - began, 1),
            "slowest": round(slowest, 2),
            "grown_mb": round(peak_rss_mb() - before),
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(fuzz(str(given.model_dir), given.inputs, given.seed)))


if __name__ == "__main__":
    main()
