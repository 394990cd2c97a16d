"""The code of docs/edge.md preprocesses as the pipeline does: taken from the page, compiled and run."""

from __future__ import annotations

import ctypes
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from core.artifacts.tflite_archive import Preprocessing
from tests.conftest import ROOT
from trainer.images import decoding

SIZE = 75
NUMBERS = (Preprocessing.scale, Preprocessing.offset)
_DRIVER = """
import java.nio.*; import java.nio.file.*;
final class Driver {
    public static void main(String[] a) throws Exception {
        int w = Integer.parseInt(a[1]), h = Integer.parseInt(a[2]), s = Integer.parseInt(a[3]);
        int[] argb = new int[w * h];
        ByteBuffer.wrap(Files.readAllBytes(Path.of(a[0]))).asIntBuffer().get(argb);
        float[] found = Preprocessing.pixels(argb, w, h, s, Float.parseFloat(a[4]), Float.parseFloat(a[5]));
        ByteBuffer bytes = ByteBuffer.allocate(4 * found.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(found);
        Files.write(Path.of(a[0] + ".out"), bytes.array());
    }
}
"""


def code(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "edge.md").read_text(), re.S)
    return found


def images() -> list[bytes]:
    """Larger and smaller than the network's input, of other shapes, and one that is transparent in places."""
    random, files = np.random.default_rng(0), []
    for width, height, mode in ((640, 480, "RGB"), (211, 333, "RGBA"), (40, 90, "RGB"), (75, 75, "RGB"), (3, 1, "RGB")):
        noise = random.integers(0, 256, (height // 3 + 1, width // 3 + 1, len(mode)), dtype=np.uint8)
        target = io.BytesIO()
        Image.fromarray(noise, mode).resize((width, height), Image.Resampling.BICUBIC).save(target, "PNG")
        files.append(target.getvalue())
    return files


def in_python(_: Path) -> Callable[[Image.Image], np.ndarray]:
    names: dict[str, Callable[..., np.ndarray]] = {}
    exec(code("python"), names)
    return lambda image: names["preprocess"](image, SIZE, *NUMBERS)[0]


def in_java(folder: Path) -> Callable[[Image.Image], np.ndarray]:
    if not (shutil.which("javac") and shutil.which("java")):
        pytest.skip("there is no JDK")
    (folder / "Preprocessing.java").write_text(code("java"))
    (folder / "Driver.java").write_text(_DRIVER)
    subprocess.run(["javac", "-d", folder, folder / "Preprocessing.java", folder / "Driver.java"], check=True)

    def run(image: Image.Image) -> np.ndarray:
        path = folder / "argb"
        path.write_bytes(np.asarray(image.convert("RGBA"))[..., [3, 0, 1, 2]].tobytes())
        arguments = map(str, (path, *image.size, SIZE, *NUMBERS))
        subprocess.run(["java", "-Xshare:auto", "-cp", folder, "Driver", *arguments], check=True)
        return np.frombuffer(Path(f"{path}.out").read_bytes(), "<f4").reshape(SIZE, SIZE, 3)

    return run


def in_c(folder: Path) -> Callable[[Image.Image], np.ndarray]:
    if not shutil.which("gcc"):
        pytest.skip("there is no C compiler")
    (folder / "preprocess.c").write_text(code("c"))
    flags = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
    library = folder / "preprocess.so"
    subprocess.run(["gcc", *flags, "-o", library, folder / "preprocess.c", "-lm"], check=True)
    preprocess = ctypes.CDLL(str(library)).preprocess

    def run(image: Image.Image) -> np.ndarray:
        white = Image.new("RGBA", image.size, "white")
        rgba = np.ascontiguousarray(Image.alpha_composite(white, image.convert("RGBA")))
        found = np.empty((SIZE, SIZE, 3), np.float32)
        pointers = rgba.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p)
        numbers = map(ctypes.c_float, NUMBERS)
        preprocess(pointers[0], *image.size, SIZE, *numbers, pointers[1])
        return found

    return run


@pytest.mark.parametrize("language", [in_python, in_java, in_c], ids=["python", "java", "c"])
def test_the_pixels_are_those_of_the_pipeline(
    language: Callable[[Path], Callable[[Image.Image], np.ndarray]], tmp_path: Path
) -> None:
    preprocess, files = language(tmp_path), images()
    expected = decoding.decode(tf.constant(files), SIZE).numpy()
    for file, pixels in zip(files, expected, strict=True):
        found = preprocess(Image.open(io.BytesIO(file)))
        assert np.abs(found - pixels).max() * 127.5 <= 1.01
