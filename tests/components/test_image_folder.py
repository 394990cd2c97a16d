import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components import image_folder
from components.image_folder import fingerprint, list_files, read_file
from components.image_reading import RejectedError
from trainer.errors import InputError

Folders = Callable[..., Path]


def paths(folder: Path) -> list[str]:
    return [file.path for file in list_files(str(folder))]


def test_lists_every_file_but_hidden_ones_and_metadata(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=1)
    (folder / "metadata.csv").touch()
    (folder / ".cache").mkdir()
    (folder / "cat" / ".hidden.png").touch()
    (folder / "cat" / "Thumbs.db").touch()
    (folder / "dog" / "notes.txt").touch()
    files = list_files(str(folder))
    assert [file.path for file in files] == ["cat/0000.png", "cat/0001.png", "dog/0000.png", "dog/notes.txt"]
    assert [file.label for file in files] == ["cat", "cat", "dog", "dog"]
    assert not any(file.problem for file in files)


def test_lists_what_cannot_be_read_with_its_problem(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    (folder / "stray.jpg").touch()
    Path(os.fsdecode(os.fsencode(folder) + b"/cat/\xff.png")).touch()
    problems = {file.path: file.problem for file in list_files(str(folder)) if file.problem}
    assert problems == {"stray.jpg": "it lies beside the class folders", "cat/\\xff.png": "its name is not UTF-8"}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "holds 0 files and no folders"),
        (lambda folder: (folder.mkdir(), (folder / "a.jpg").touch()), "holds 1 files and no folders"),
        (lambda folder: (folder / "cat" / "young").mkdir(parents=True), "class folder cat in .* holds folders itself"),
        (lambda folder: (folder / "cat").mkdir(parents=True), "class folder cat in .* holds no files"),
        (lambda folder: (folder / "c\nat").mkdir(parents=True), "cannot name a class"),
        (lambda folder: (folder / "cat ").mkdir(parents=True), "cannot name a class"),
    ],
)
def test_a_wrong_layout_is_told_with_what_is_expected(tmp_path: Path, prepare: Callable, words: str) -> None:
    prepare(tmp_path / "images")
    with pytest.raises(InputError, match=words) as error:
        list_files(str(tmp_path / "images"))
    assert "class name" in str(error.value) or "name a class" in str(error.value)


def test_one_class_is_not_enough(image_folder: Folders) -> None:
    with pytest.raises(InputError, match="holds only one class folder, cat"):
        list_files(str(image_folder(cat=1)))


def test_fingerprint_sees_every_change(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=2)

    def now() -> str:
        return fingerprint(str(folder), list_files(str(folder)), "metadata.csv")

    (folder / "metadata.csv").write_text("file_name,day\n")
    seen = [now()]
    assert now() == seen[0]
    (folder / "cat" / "0000.png").rename(folder / "dog" / "moved.png")  # TFX's own fingerprint does not see this.
    seen.append(now())
    os.utime(folder / "cat" / "0001.png", ns=(1, 1))
    seen.append(now())
    (folder / "metadata.csv").write_text("file_name,day\ncat/0001.png,monday\n")
    seen.append(now())
    (folder / "cat" / "new.png").touch()
    seen.append(now())
    assert len(set(seen)) == len(seen)


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
    assert rejected(folder, "cat/large.bmp") == "limits: 68157440 bytes are more than 64 MB"


def test_a_long_list_of_names_is_cut() -> None:
    assert image_folder.some(["a", "b"]) == "a, b"
    assert image_folder.some(list("abcdefg")) == "a, b, c, d, e and 2 more"
