import hashlib
import time
from pathlib import Path

import pytest
from PIL import Image

from components.ingestion.digits import COUNT, write_digits


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_writes_every_digit_once_and_the_same_every_time(tmp_path: Path) -> None:
    write_digits(str(tmp_path / "a" / "digits"))
    write_digits(str(tmp_path / "digits"))
    images = list((tmp_path / "digits").glob("*/*.png"))
    assert len(images) == COUNT
    assert sorted(path.name for path in (tmp_path / "digits").iterdir() if path.is_dir()) == list("0123456789")
    assert digest(tmp_path / "digits") == digest(tmp_path / "a" / "digits")
    with Image.open(images[0]) as image:
        assert (image.mode, image.size) == ("L", (32, 32))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "digits"}, "nothing unfinished is left behind"


def test_a_complete_folder_is_left_alone(tmp_path: Path) -> None:
    write_digits(str(tmp_path / "digits"))
    before = (tmp_path / "digits" / "0").stat().st_mtime_ns
    start = time.monotonic()
    write_digits(str(tmp_path / "digits"))
    assert time.monotonic() - start < 0.1
    assert (tmp_path / "digits" / "0").stat().st_mtime_ns == before


def test_somebody_elses_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="something else"):
        write_digits(str(tmp_path))
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]
