"""Files are replaced in one step or not at all."""

from pathlib import Path

import pytest

from core import atomic_io
from core.errors import InputError


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    with atomic_io.replacing(path) as file:
        file.write("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_what_was_there_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    with pytest.raises(KeyboardInterrupt), atomic_io.replacing(path) as file:
        file.write("ne")
        raise KeyboardInterrupt

    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_names_of_files_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    atomic_io.write_text(tmp_path / "a", "caf\udce9\n")

    assert (tmp_path / "a").read_bytes() == b"caf\\udce9\n"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match="is not a regular file"):
            atomic_io.write_text(path, "x")
