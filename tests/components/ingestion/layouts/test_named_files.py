"""Which file a name in a table means."""

import unicodedata

import pytest

from components.ingestion.layouts.named_files import FileNames

FILES = (
    "owl/1.png",
    "owl/2.png",
    "robin/1.png",
    "robin/3.PNG",
    "robin/möwe.jpg",
    "a b.c.png",
    "train/x/7.png",
    "50%.png",
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("owl/1.png", "owl/1.png"),
        ("./owl/1.png", "owl/1.png"),
        ("/owl/1.png", "owl/1.png"),
        ("owl\\1.png", "owl/1.png"),
        ("x/../owl/1.png", "owl/1.png"),
        ("file:///owl/1.png", "owl/1.png"),
        ("a%20b.c.png", "a b.c.png"),
        ("50%.png", "50%.png"),
    ],
)
def test_a_path_in_another_spelling_is_a_path(name: str, path: str) -> None:
    assert FileNames(FILES).find(name) == (path, True, "", "")


@pytest.mark.parametrize(
    ("name", "path", "above"),
    [
        ("OWL/1.PNG", "owl/1.png", ""),
        ("2.png", "owl/2.png", ""),
        ("2", "owl/2.png", ""),
        ("robin/3", "robin/3.PNG", ""),
        ("a b.c", "a b.c.png", ""),
        (unicodedata.normalize("NFD", "robin/möwe.jpg"), "robin/möwe.jpg", ""),
        ("/home/anna/birds/owl/1.png", "owl/1.png", "home/anna/birds"),
        ("C:\\Birds\\Owl\\1.png", "owl/1.png", "C:/Birds"),
        ("https://example.org/owl/1.png", "owl/1.png", "https:/example.org"),
    ],
)
def test_a_name_may_leave_out_folders_or_have_more_of_them(name: str, path: str, above: str) -> None:
    found = FileNames(FILES).find(name)
    assert (found.path, found.exact, found.above) == (path, False, above)


@pytest.mark.parametrize("name", ["owl/3.png", "wren/1.png", "owl/1.jpg", "01.png", "owl", "", "..", "x/y/2.png"])
def test_a_name_that_another_folder_or_ending_is_part_of_is_none(name: str) -> None:
    assert FileNames(FILES).find(name).problem == "there is no such file"


def test_a_name_that_fits_several_files_is_none() -> None:
    assert FileNames(FILES).find("1.png").problem == "it may be any of owl/1.png, robin/1.png"
    assert FileNames(["a.png", "A.png", "a.jpg"]).find("a.png").path == "a.png"
    assert FileNames(["a.png", "A.png"]).find("a.PNG").problem.startswith("it may be any of")
    assert FileNames(["a.png", "a.jpg"]).find("a").problem.startswith("it may be any of")


def test_a_table_in_a_folder_is_of_the_files_in_it() -> None:
    files = FileNames(["train/1.png", "train/deep/4.png", "test/1.png", "test/2.png"])
    assert files.find("1.png", "train").path == "train/1.png"
    assert files.find("train/1.png", "train").path == "train/1.png"
    assert files.find("../test/2.png", "train").path == "test/2.png"
    assert files.find("4", "train") == ("train/deep/4.png", False, "", "")
    assert files.find("C:\\deep\\4.png", "train") == ("train/deep/4.png", False, "C:", "")
    assert not files.find("2.png", "train").path


@pytest.mark.parametrize(("name", "like"), [("x/owl/2.png", "owl/2.png"), ("2.jpg", "owl/2.png"), ("zzz", "")])
def test_the_nearest_file_name_is_suggested(name: str, like: str) -> None:
    assert FileNames(FILES).like(name) == like
