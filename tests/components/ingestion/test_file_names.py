"""Files that are no pictures: told apart by their names, and bounded where they are most of a folder."""

import re
from pathlib import Path

import pytest

from components.ingestion.file_names import claims_picture, is_no_picture, kinds
from components.ingestion.image_reading import looks_like_picture
from core.errors import InputError
from tests.components.ingestion.listings import read_layout


def make(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def pictures(number: int, *folders: str, ending: str = "png") -> list[str]:
    return [f"{folder}/{i}.{ending}" for folder in folders for i in range(number)]


@pytest.mark.parametrize("path", ["a.JPG", "b/c.cr2", "x.heic", "README.jpg", "a.json.png"])
def test_image_extensions_claim_a_picture(path: str) -> None:
    assert claims_picture(path) and not is_no_picture(path)


@pytest.mark.parametrize(
    "path", ["a.JSON", "a.jpg.json", "x.mov", "README", "b/readme.md", "LICENSE-MIT", "README.dataset.txt", "x.pdf"]
)
def test_sidecars_and_documents_are_no_pictures_by_name(path: str) -> None:
    assert is_no_picture(path) and not claims_picture(path)


@pytest.mark.parametrize("path", ["a", "a.b", "photo.2019-01-02", "IMG 1", "x.gz", ".png", "cat.jpg (1)", "readmes"])
def test_other_names_say_nothing_about_the_content(path: str) -> None:
    assert not is_no_picture(path) and not claims_picture(path)


def test_kinds_are_counted_by_ending() -> None:
    assert kinds(["a.TXT", "b/c.txt", "d", "e.tar.gz"]) == "2 .txt, 1 without an ending, 1 .gz"
    assert kinds(f"a.x{i}" for i in range(9)).endswith("1 .x4 and 4 others")


def test_sidecars_lists_and_read_mes_are_ignored_and_told_apart(tmp_path: Path) -> None:
    make(tmp_path, *pictures(3, "owl", "wren"), *pictures(3, "owl", "wren", ending="json"), "README.txt")
    make(tmp_path, "owl/0.png.xmp", "owl/1.mov", "owl/1.aae", "wren/_annotations.csv", "LICENSE")
    listing = read_layout(str(tmp_path))
    assert [file.path for file in listing.files] == pictures(3, "owl", "wren")
    assert not any(file.problem for file in listing.files)
    assert listing.notes() == [
        "ignored: 6 beside a picture of its name: .json (owl/0.json), 2 no picture: a read-me or license file "
        "(LICENSE), 1 beside a picture of its name: .xmp (owl/0.png.xmp), 1 beside a picture of its name: .aae "
        "(owl/1.aae), 1 beside a picture of its name: .mov (owl/1.mov) and 1 others"
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([*pictures(9, "owl", "wren", ending="mp4"), "owl/0.png"], r'17 \.mp4, and 1 .* data\.ignore: \["\*\.mp4"\]'),
        (pictures(9, "owl", "wren", ending="json"), r"18 \.json, and 0 that may"),
        ([*pictures(9, "owl", ending="txt"), *pictures(3, "owl"), "wren/x.jpg"], r"6 \.txt, and 4 that may"),
        (pictures(5, "owl") + pictures(5, "notes", ending="txt"), r"The class notes .* no pictures: 5 \.txt"),
        (
            pictures(3, "train/owl", "valid/owl") + pictures(3, "train/notes", "valid/notes", ending="txt"),
            r'The class notes .* no pictures: 6 \.txt.* data\.ignore to \["notes/"\]',
        ),
        (pictures(5, ".")[:1] + [f"{i}.json" for i in range(7)], r"7 \.json, 1 \.png|8 files"),
    ],
)
def test_a_folder_of_other_things_stops_with_what_they_are(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_layout(str(make(tmp_path, *files)))


def test_what_the_message_says_to_ignore_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, *pictures(2, "owl", "wren"), *pictures(9, "owl", "wren", "labels", ending="txt"))
    with pytest.raises(InputError, match=r'data\.ignore: \["\*\.txt"\]'):
        read_layout(str(tmp_path))
    with pytest.raises(InputError, match=r"class folder labels .* holds no files"):
        read_layout(str(tmp_path), ignore=["*.txt"])
    assert read_layout(str(tmp_path), ignore=["*.txt", "labels/"]).classes() == ["owl", "wren"]


def test_a_class_may_lack_pictures_in_a_split(tmp_path: Path) -> None:
    make(tmp_path, *pictures(3, "train/owl", "train/wren", "val/owl"), "val/wren/notes.txt")
    assert read_layout(str(tmp_path)).classes() == ["owl", "wren"]


@pytest.mark.parametrize(
    ("head", "picture"),
    [
        (b"\xff\xd8\xff\xe0", True),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True),
        (b"II*\0\x10\0\0\0CR\2\0", True),
        (b"version https://git-lfs.github.com/spec/v1\n", True),
        (b"", False),
        (b"P", False),
        (b"<html>", False),
        (b"\0\0\0\x18ftypmp42", False),
    ],
)
def test_what_a_file_that_claims_nothing_looks_like(head: bytes, picture: bool) -> None:
    assert looks_like_picture(head) == picture


@pytest.mark.parametrize("name", ["swan [2]", 'the "swan"', "swan?", "a*b", "!swan", "#swan", "back\\slash"])
def test_the_advice_to_ignore_a_folder_works_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    for label in ("owl", "robin"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").touch()
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="holds no files") as told:
        read_layout(str(tmp_path))
    pattern = re.findall(r'data\.ignore: \["(.*?)"\] passes over it', str(told.value))
    assert read_layout(str(tmp_path), ignore=pattern).classes() == ["owl", "robin"]


@pytest.mark.parametrize("pattern", ["owl\\", "[z-a]"])
def test_what_is_no_pattern_is_told(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "owl").mkdir()
    with pytest.raises(InputError, match=r"data\.ignore: .*not as in a \.gitignore file"):
        read_layout(str(tmp_path), ignore=[pattern])
