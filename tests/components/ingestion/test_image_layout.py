import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.ingestion.image_layout import Listing, read_layout
from core.errors import InputError

Folders = Callable[..., Path]


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def listed(listing: Listing) -> dict[str, tuple[str, str]]:
    assert not any(file.problem for file in listing.files)
    return {file.path: (file.label, file.split) for file in listing.files}


def test_class_folders(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=1)
    make(folder, "metadata.csv", ".cache/x.png", "cat/.hidden.png", "cat/Thumbs.db", "dog/notes.txt", "dog/UPPER.JPG")
    listing = read_layout(str(folder))
    assert (listing.layout, listing.given, listing.classes()) == ("class_folders", (), ["cat", "dog"])
    assert listed(listing) == {
        "cat/0000.png": ("cat", ""),
        "cat/0001.png": ("cat", ""),
        "dog/0000.png": ("dog", ""),
        "dog/UPPER.JPG": ("dog", ""),
    }
    assert len(listing.ignored) == 5, "a hidden folder, two hidden files, a text and metadata.csv"
    assert listing.describe() == "class folders: 4 files in 2 classes"


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "Validation", "TEST"), ("train", "dev", "test")]
)
def test_pre_split_folders_by_any_of_their_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    folder = make(tmp_path, *(f"{split}/{label}/{split}{i}.png" for split in names for label in "ab" for i in range(2)))
    listing = read_layout(str(folder))
    assert (listing.layout, listing.given, listing.classes()) == (
        "split_folders",
        ("train", "eval", "test"),
        ["a", "b"],
    )
    assert listed(listing)[f"{names[1]}/b/{names[1]}0.png"] == ("b", "eval")
    assert listing.describe() == "pre-split folders: train 4, eval 4, test 4 files"


def test_a_split_that_is_not_given_is_said_to_be_made(tmp_path: Path) -> None:
    folder = make(tmp_path, "train/a/1.png", "train/b/2.png", "valid/a/3.png", "4.png")
    listing = read_layout(str(folder))
    assert listing.given == ("train", "eval")
    assert listing.describe() == "pre-split folders: train 2, eval 1 files; test made from train, by hashing"
    assert [(f.path, f.problem) for f in listing.files if f.problem] == [("4.png", "it lies beside the split folders")]


def test_classes_that_are_called_like_splits_are_classes(tmp_path: Path) -> None:
    listing = read_layout(str(make(tmp_path, "train/1.png", "test/2.png")))
    assert (listing.layout, listing.classes()) == ("class_folders", ["test", "train"])


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_labels_in_the_metadata_with_files_anywhere(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, "1.png", "deep/er/2.png", "deep/3.png", "4.png", "5.png")
    rows = [
        ("1.png", "cat", "phone"),
        ("deep/er/2.png", "dog", "scanner"),
        ("deep/3.png", "dog", ""),
        ("5.png", "", "x"),
    ]
    if name.endswith(".csv"):
        text = "file_name,label,camera\n" + "".join(",".join(row) + "\n" for row in rows)
    else:
        text = "".join(json.dumps(dict(zip(("file_name", "label", "camera"), row, strict=True))) + "\n" for row in rows)
    (folder / name).write_text(text)
    listing = read_layout(str(folder))
    assert listing.layout == "metadata"
    assert {file.path: (file.label, file.problem) for file in listing.files} == {
        "1.png": ("cat", ""),
        "deep/er/2.png": ("dog", ""),
        "deep/3.png": ("dog", ""),
        "4.png": ("", f"{name} has no row for it"),
        "5.png": ("", f"its label in {name} is empty"),
    }
    assert listing.metadata.columns == ("camera",)
    assert listing.metadata.values("deep/er/2.png") == {"camera": "scanner"}
    assert listing.describe() == "labels in the metadata: 3 files in 2 classes"
    assert len(listing.ignored) == 1


def test_metadata_without_labels_leaves_the_classes_to_the_folders(image_folder: Folders) -> None:
    folder = image_folder(cat=1, dog=1)
    (folder / "about.csv").write_text("file_name,camera\ncat/0000.png,phone\n")
    listing = read_layout(str(folder), metadata="about.csv")
    assert listing.layout == "class_folders"
    assert listing.metadata.values("cat/0000.png") == {"camera": "phone"}
    assert "about.csv" not in listed(listing)


def test_a_layout_can_be_told(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "test/2.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/1.png,a\ntest/2.png,b\n")
    assert read_layout(str(tmp_path)).layout == "metadata"
    assert read_layout(str(tmp_path), "class_folders").classes() == ["test", "train"]
    with pytest.raises(InputError, match=r"holds no folders of classes and 3 files: 2 \.png, 1 \.csv"):
        read_layout(str(tmp_path), "split_folders")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], "holds no folders of classes and 0 files"),
        (["a.jpg"], "holds no folders of classes and 1 files: 1 .jpg"),
        (["cat/young/1.png"], r"class folder cat in .* holds folders itself \(cat/young\)"),
        (["cat/a.jpg/1.png", "dog/1.png"], r"class folder cat in .* holds folders itself \(cat/a.jpg\)"),
        (["train/cat/1.png", "other/cat/1.png"], "holds folders itself"),
        (["train/cat/old/1.png", "test/cat/1.png"], "class folder train/cat in .* holds folders itself"),
        (["cat/1.png"], "holds only one class folder, cat"),
        (["train/cat/1.png", "val/cat/1.png"], "holds only one class folder, cat"),
        (["c\nat/1.png", "dog/1.png"], "cannot name a class"),
        (["cat /1.png", "dog/1.png"], "cannot name a class"),
    ],
)
def test_a_wrong_layout_is_told_with_what_is_expected(tmp_path: Path, paths: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_layout(str(make(tmp_path, *paths)))
    assert "docs/data.md" in str(error.value) or "name a class" in str(error.value)


def test_folders_within_class_folders_are_read_where_the_layout_is_told(tmp_path: Path) -> None:
    """As torchvision's ImageFolder and Keras's image_dataset_from_directory read them, which guess."""
    folder = make(tmp_path, "cat/1.png", "cat/old/2.png", "cat/old/box 3/3.png", "dog/day/4.png", "5.png")
    with pytest.raises(
        InputError, match=r"if all that is below cat is of that class, set data\.layout to class_folders"
    ):
        read_layout(str(folder))

    listing = read_layout(str(folder), "class_folders")

    assert {file.path: file.label or file.problem for file in listing.files} == {
        "5.png": "it lies beside the class folders",
        "cat/1.png": "cat",
        "cat/old/2.png": "cat",
        "cat/old/box 3/3.png": "cat",
        "dog/day/4.png": "dog",
    }
    assert listing.describe() == "class folders: 4 files in 2 classes, 3 of them in folders within the class folders"
    assert read_layout(str(make(tmp_path / "flat", "cat/1.png", "dog/1.png")), "class_folders").nested == 0


def test_folders_within_the_class_folders_of_splits_likewise(tmp_path: Path) -> None:
    folder = make(tmp_path, "train/cat/old/1.png", "train/dog/2.png", "val/cat/3.png")
    listing = read_layout(str(folder), "split_folders")
    assert listed(listing) == {
        "train/cat/old/1.png": ("cat", "train"),
        "train/dog/2.png": ("dog", "train"),
        "val/cat/3.png": ("cat", "eval"),
    }
    assert "train 2, eval 1 files, 1 of them in folders within the class folders; test made" in listing.describe()


def test_an_empty_class_folder_is_told(image_folder: Folders) -> None:
    folder = image_folder(cat=1)
    (folder / "dog").mkdir()
    with pytest.raises(InputError, match=r"class folder dog in .* holds no files"):
        read_layout(str(folder))


def test_split_folders_need_train_and_no_others(tmp_path: Path) -> None:
    for paths in (["val/a/1.png", "test/b/1.png"], ["train/a/1.png", "val/b/1.png", "valid/a/1.png"]):
        folder = make(tmp_path / paths[0].replace("/", "-"), *paths)
        with pytest.raises(InputError, match=r"holds the folders .* Expected <data folder>/<train, val or test>"):
            read_layout(str(folder), "split_folders")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,label\n1.png,a\n2.png,a\n", "fewer than two labels"),
        ("file_name,label\n1.png, a\n2.png,b\n", "The label ' a' .* cannot name a class"),
        ("file_name,label\n1.png,a\n9.png,b\n", "names 1 files that are not in the data folder: 9.png"),
    ],
)
def test_labels_that_do_not_fit_are_told(tmp_path: Path, text: str, words: str) -> None:
    make(tmp_path, "1.png", "2.png")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_layout(str(tmp_path))


def test_a_metadata_file_that_is_asked_for_must_be_there(image_folder: Folders) -> None:
    with pytest.raises(InputError, match=r"There is no .*other\.csv\. Write it, or set data\.metadata to null"):
        read_layout(str(image_folder(cat=1, dog=1)), metadata="other.csv")


def test_the_fingerprint_sees_every_change(image_folder: Folders) -> None:
    folder = image_folder(cat=2, dog=2)
    (folder / "metadata.csv").write_text("file_name,day\n")

    def now() -> str:
        return read_layout(str(folder), metadata="metadata.csv").fingerprint()

    seen = [now()]
    assert now() == seen[0]
    (folder / "cat" / "0000.png").rename(folder / "dog" / "moved.png")  # TFX's own fingerprint does not see this.
    seen.append(now())
    (folder / "cat" / "0001.png").write_bytes(b"rewritten")
    seen.append(now())
    (folder / "metadata.csv").write_text("file_name,day\ncat/0001.png,monday\n")
    seen.append(now())
    make(folder, "cat/new.png")
    seen.append(now())
    assert len(set(seen)) == len(seen)
