import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from components.ingestion import image_folder
from components.ingestion.image_folder import read_file, walk
from components.ingestion.image_reading import RejectedError
from core.errors import InputError

Folders = Callable[..., Path]


def paths(folder: Path) -> list[str]:
    return [file.path for file in walk(str(folder)).files]


def test_lists_everything_below_but_hidden_things(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=1)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "a.png").touch()
    (folder / "cat" / ".hidden.png").touch()
    (folder / "cat" / "Thumbs.db").touch()
    (folder / "dog" / "old").mkdir()
    (folder / "dog" / "old" / "UPPER.JPG").touch()
    tree = walk(str(folder))
    assert [file.path for file in tree.files] == ["cat/0000.png", "cat/0001.png", "dog/0000.png", "dog/old/UPPER.JPG"]
    assert tree.folders == ["cat", "dog", "dog/old"]
    assert tree.ignored == 3
    assert not any(file.problem for file in tree.files)


def test_names_in_any_script_are_read(tmp_path: Path) -> None:
    names = [
        "日本語.png",
        "кот.png",
        "قطة.png",
        "e\u0301 \U0001f408.png",
        "100 %.png",
        "#1?.png",
        "a\nb.png",
        "'\".png",
        "x" * 200,
    ]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert paths(tmp_path) == sorted(names)
    assert all(read_file(str(tmp_path), name) == name.encode() for name in names)


def test_lists_what_cannot_be_read_with_its_problem(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    Path(os.fsdecode(os.fsencode(folder) + b"/cat/\xff.png")).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").touch()
    (folder / "bird").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "again").symlink_to(folder)
    problems = {file.path: file.problem for file in walk(str(folder)).files if file.problem}
    assert problems == {
        "cat/\\xff.png": "its name is not UTF-8",
        "bird": "it is a link out of the data folder",
        "dog/again": "it is a link to a folder it is in",
    }


def test_a_folder_that_is_not_there_or_cannot_name_anything_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        walk(str(tmp_path / "nowhere"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).mkdir()
    with pytest.raises(InputError, match=r"The folder \\xff in .* has a name that is not UTF-8"):
        walk(str(tmp_path))


def test_a_hundred_thousand_files_in_one_folder_take_seconds_and_two_kilobytes_each(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for i in range(100_000):
        os.mknod(tmp_path / "cat" / f"{i}.png")
    tracemalloc.start()
    began = time.process_time()
    files = walk(str(tmp_path)).files
    image_folder.fingerprint(str(tmp_path), files)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == 100_000
    assert seconds < 30  # of which most are tracemalloc's own
    assert peak < 100_000 * 2048


def rejected(folder: Path, path: str) -> str:
    with pytest.raises(RejectedError) as error:
        read_file(str(folder), path)
    return str(error.value)


def test_reads_a_file_and_links_within_the_folder(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    (folder / "dog" / "link.png").symlink_to("../cat/0000.png")
    assert read_file(str(folder), "dog/link.png") == (folder / "cat" / "0000.png").read_bytes()


def test_a_linked_data_folder_is_read(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    (tmp_path / "link").symlink_to(folder)
    assert read_file(str(tmp_path / "link"), "cat/0000.png") == (folder / "cat" / "0000.png").read_bytes()


def test_what_should_not_be_opened_is_rejected(image_folder: Folders, tmp_path: Path) -> None:
    folder = image_folder(cat=1, dog=1)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "cat" / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "cat" / "broken.png").symlink_to("nowhere.png")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    assert rejected(folder, "cat/out.png") == "open: it is a link out of the data folder"
    assert rejected(folder, "cat/broken.png") == "open: it cannot be opened: No such file or directory"
    assert "open: it cannot be opened" in rejected(folder, "cat/loop.png")
    assert rejected(folder, "cat/pipe.png") == "open: it is not a regular file"
    assert len(paths(folder)) == 6  # Listed all the same: nothing is dropped silently.


def test_a_file_without_permission_is_rejected() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "cat").mkdir()
        (folder / "cat" / "0000.png").write_bytes(b"secret")
        (folder / "cat" / "0000.png").chmod(0)
        was = os.geteuid()
        if was == 0:  # Permissions do not stop root, but do whom it can become.
            os.seteuid(65534)
        try:
            assert rejected(folder, "cat/0000.png") == "open: it cannot be opened: Permission denied"
        finally:
            os.seteuid(was)


def test_a_large_file_is_rejected_unread(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    with (folder / "cat" / "large.bmp").open("wb") as file:
        file.truncate(65 * 2**20)
    assert rejected(folder, "cat/large.bmp") == "limits: 68,157,440 bytes are more than 64 MB"


def test_a_long_list_of_names_is_cut() -> None:
    assert image_folder.some(["a", "b"]) == "a, b"
    assert image_folder.some(list("abcdefg")) == "a, b, c, d, e and 2 more"
