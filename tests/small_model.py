"""Exports of a few bytes, which no TensorFlow reads: for what copies, verifies, counts and deletes models."""

from pathlib import Path

from core import checksums


def write_model(folder: Path, content: str = "model") -> Path:
    """A model's files and their checksums; equal content gives an equal model."""
    for name in ("saved_model.pb", "variables/variables.index", "assets/classes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}: {content}")
    checksums.write_checksums(str(folder))
    return folder


def write_versions(directory: Path, *numbers: int) -> list[Path]:
    """Versions as they serve, each with a model of its own."""
    return [write_model(directory / str(number), f"version {number}") for number in numbers]


def flip(model: Path, name: str = "variables/variables.index") -> Path:
    """Changes a byte, and no size."""
    data = bytearray((model / name).read_bytes())
    data[-1] ^= 1
    (model / name).write_bytes(data)
    return model


def cut(model: Path, name: str = "variables/variables.index") -> Path:
    """Leaves half of a file, as a full disk does."""
    data = (model / name).read_bytes()
    (model / name).write_bytes(data[: len(data) // 2])
    return model
