import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from components.ingestion.layouts.listing import Listing
from core.errors import InputError
from tests.components.ingestion.listings import read_layout

Folders = Callable[..., Path]


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def listed(listing: Listing) -> dict[str, tuple[str, str]]:
    assert not any(file.problem for file in listing.files)
    return {file.path: (file.label, file.split) for file in listing.files}


def test_class_folders_name_the_classes_and_other_files_are_ignored(image_folder: Folders) -> None:
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


def test_classes_that_are_called_like_splits_are_classes_only_where_told(tmp_path: Path) -> None:
    folder = str(make(tmp_path, "train/1.png", "test/2.png"))
    with pytest.raises(
        InputError, match=r"test, train are called like splits, and hold no class folders.*class_folders"
    ):
        read_layout(folder)
    listing = read_layout(folder, "class_folders")
    assert (listing.layout, listing.classes()) == ("class_folders", ["test", "train"])
    assert listing.remarks == (
        "data.layout is class_folders: test, train are read as classes or parts of them, not as splits",
    )


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
        "5.png": ("", f"it has no label in {name}, line {5 if name.endswith('.csv') else 4}"),
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
    with pytest.raises(InputError, match="hold no class folders"):
        read_layout(str(tmp_path), "split_folders")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], "holds 0 files and no folders"),
        (["a.jpg"], r"holds 1 files \(1 \.jpg\) and no folders"),
        (["cat/young/1.png"], r"class folder cat in .* holds folders itself \(cat/young\)"),
        (["cat/a.jpg/1.png", "dog/1.png"], r"class folder cat in .* holds folders itself \(cat/a.jpg\)"),
        (["train/cat/1.png", "other/cat/1.png"], "the folders other beside train, which are called like splits"),
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
        InputError, match=r"If all that is below cat is of that class, set data\.layout to class_folders"
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
    for paths, words in (
        (["val/a/1.png", "test/b/1.png"], "gives the splits test, val, and no train"),
        (["train/a/1.png", "val/b/1.png", "valid/a/1.png"], "val and valid both name the split eval"),
        (["train/a/1.png", "holdout/b/1.png"], r"holdout beside train, .* data\.ignore: \[./holdout/.\]"),
        (
            ["train/a/1.png", "train/b/1.png", "test/1.png"],
            "the folders test are called like splits, and hold no class",
        ),
    ):
        folder = make(tmp_path / words[:9], *paths)
        for layout in ("auto", "split_folders"):
            with pytest.raises(InputError, match=words):
                read_layout(str(folder), layout)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,label\n1.png,a\n2.png,a\n", "fewer than two labels"),
        ('file_name,label\n1.png,"a\nc"\n2.png,b\n', "The label 'a.nc' .* cannot name a class"),
        ("file_name,label\n1.png,a\n7.png,c\n8.png,b\n", r"(?s)of 2 of 3 rows there is no file.*line 3: 7\.png: there"),
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


def write_rows(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "labels.csv", "_annotations.csv"])
def test_flat_splits_with_a_table_in_each(tmp_path: Path, name: str) -> None:
    for split, numbers in (("Train", "12"), ("test", "12")):
        make(tmp_path, *(f"{split}/{number}.png" for number in numbers))
        tab = "\t" if name.endswith(".tsv") else ","
        labels = ("a", "b") if split == "Train" else ("b", "a")
        rows = [f"{number}.png{tab}{label}" for number, label in zip(numbers, labels, strict=True)]
        write_rows(tmp_path / split / name, f"file_name{tab}label", *rows)
    listing = read_layout(str(tmp_path))
    assert listed(listing) == {
        "Train/1.png": ("a", "train"),
        "Train/2.png": ("b", "train"),
        "test/1.png": ("b", "test"),
        "test/2.png": ("a", "test"),
    }
    assert listing.describe() == "labels in the metadata: train 2, test 2 files; eval made from train, by hashing"
    assert "2 tables, Train/" in listing.remarks[0]


def test_a_file_is_not_looked_for_beyond_the_folder_of_its_table(tmp_path: Path) -> None:
    """A picture that is missing in train must not be taken from test."""
    make(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    write_rows(tmp_path / "train/metadata.csv", "file_name,label", "1.png,a", "2.png,b", "3.png,a")
    write_rows(tmp_path / "test/metadata.csv", "file_name,label", "3.png,b")
    listing = read_layout(str(tmp_path))
    assert {file.path: (file.label, file.split, file.problem) for file in listing.files}["test/3.png"] == (
        "b",
        "test",
        "",
    )
    assert [file.problem for file in listing.files if file.problem] == [
        "train/metadata.csv, line 4: there is no such file"
    ]


@pytest.mark.parametrize("column", [True, False])
def test_splits_that_a_column_or_the_paths_give_are_kept(tmp_path: Path, column: bool) -> None:
    rows = []
    for split in ("train", "val", "test"):
        for number, label in enumerate("ab"):
            make(tmp_path, f"img/{number}{split}.png" if column else f"img/{split}/{number}.png")
            rows.append(f"{number}{split}.png,{label},{split}" if column else f"{split}/{number}.png,{label}")
    write_rows(tmp_path / "metadata.csv", "file_name,label" + ",Split" * column, *rows)
    listing = read_layout(str(tmp_path))
    assert listing.given == ("train", "eval", "test")
    assert all(("train" in path) == (split == "train") for path, (_, split) in listed(listing).items())
    assert listing.metadata.columns == ()


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        (
            "file_name,label,split",
            "train/2.png,b,test",
            r"1 files are of one split by their folder .* \(train/2.png: test in ",
        ),
        ("file_name,label,split", "train/2.png,b,holdout", "holdout is none of train, val and test"),
        ("file_name,label,partition", "train/2.png,b,2", "partition seems to say .* data.columns.split to null"),
        ("file_name,label,split", "extra/4.png,b,train", ""),
        (
            "file_name,label",
            "extra/4.png,b",
            r"the folders test, train are called like splits, and other .* lie in extra",
        ),
        ("file_name,label", "5.png,b", "other labeled files lie in no such folder"),
    ],
)
def test_splits_that_contradict_or_are_not_known_stop(tmp_path: Path, header: str, row: str, words: str) -> None:
    make(tmp_path, "train/1.png", "train/2.png", "test/3.png", "extra/4.png", "5.png")
    given = [
        f"{path},{label}"
        + f",{path.split('/')[0]}" * header.count(",p")
        + f",{path.split('/')[0]}" * ("split" in header)
        for path, label in (("train/1.png", "a"), ("test/3.png", "b"))
    ]
    write_rows(tmp_path / "metadata.csv", header, *given, row)
    if not words:
        assert read_layout(str(tmp_path)).given == ("train", "test")
        return
    with pytest.raises(InputError, match=words):
        read_layout(str(tmp_path))


def test_a_column_of_something_else_may_be_called_like_splits(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.png")
    write_rows(tmp_path / "metadata.csv", "file_name,label,set,fold", "1.png,a,A,0", "2.png,b,B,1")
    assert read_layout(str(tmp_path)).metadata.columns == ("set", "fold")
    write_rows(tmp_path / "metadata.csv", "file_name,label,split", "1.png,a,A", "2.png,b,B")
    with pytest.raises(InputError, match=r"set data\.columns\.split to null"):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), columns={"split": None}).metadata.columns == ("split",)


def test_a_table_of_splits_beside_class_folders_is_kept_to(tmp_path: Path) -> None:
    make(tmp_path, "owl/1.png", "owl/2.png", "wren/3.png", "wren/4.png")
    write_rows(tmp_path / "split.csv", "image,subset", "1,train", "2,test", "3,training", "4,TEST")
    listing = read_layout(str(tmp_path))
    assert listed(listing)["wren/4.png"] == ("wren", "test")
    assert listing.describe() == "class folders: train 2, test 2 files; eval made from train, by hashing"
    assert listing.remarks[0] == "split.csv (commas, UTF-8): file names in image, splits in subset"


def test_tables_named_after_splits_give_the_splits(tmp_path: Path) -> None:
    make(tmp_path, *(f"img/{number}.png" for number in range(4)))
    write_rows(tmp_path / "train.csv", "image,class", "0.png,a", "1.png,b")
    write_rows(tmp_path / "test.csv", "image,class", "2.png,a", "3.png,b")
    assert {split for _, split in listed(read_layout(str(tmp_path))).values()} == {"train", "test"}
    write_rows(tmp_path / "sample_submission.csv", "image,class", "2.png,a", "3.png,a")
    with pytest.raises(InputError, match=r"several tables of images, .* data\.metadata: "):
        read_layout(str(tmp_path))


def test_split_folders_within_class_folders_are_kept(tmp_path: Path) -> None:
    folder = make(tmp_path, "owl/train/1.png", "owl/test/2.png", "wren/train/3.png")
    listing = read_layout(str(folder))
    assert listed(listing)["owl/test/2.png"] == ("owl", "test")
    assert listing.remarks == ("the splits lie within the class folders (owl/test)",)
    with pytest.raises(InputError, match="some class folders hold folders called like splits, and others do not"):
        read_layout(str(make(folder, "robin/4.png")))
    with pytest.raises(InputError, match=r"owl, robin, wren beside train, which are called"):
        read_layout(str(make(folder, "train/owl/5.png")))


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("my-train-photos", "my-val-photos")])
def test_folders_that_seem_to_be_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    make(tmp_path, *(f"{name}/{number}.png" for name in names for number in range(2)))
    with pytest.raises(InputError, match="seem to be splits"):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), "class_folders").classes() == sorted(names)


@pytest.mark.parametrize(
    "names", [("training_set", "test_set"), ("train2017", "val2017"), ("TRAIN", "Dev"), ("trainval", "test")]
)
def test_common_names_of_split_folders_are_recognized(tmp_path: Path, names: tuple[str, str]) -> None:
    make(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in "ab"))
    assert "train" in read_layout(str(tmp_path)).given


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["images/1.png", "labels/1.txt"], "object detection"),
        (["train/images/1.png", "train/labels/1.txt", "valid/images/2.png", "valid/labels/2.txt"], "object detection"),
        (["JPEGImages/1.jpg", "Annotations/1.xml", "ImageSets/Main/train.txt"], "object detection"),
        (["annotations/instances.json", "train2017/1.jpg", "val2017/2.jpg"], "object detection"),
        (["images/1.png", "masks/1.png"], "segmentation"),
        (
            ["entrenamiento/a/1.png", "entrenamiento/b/1.png", "prueba/a/1.png", "prueba/b/1.png"],
            r"same names \(a, b\)",
        ),
    ],
)
def test_data_for_other_tasks_are_named(tmp_path: Path, paths: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_layout(str(make(tmp_path, *paths)))


@pytest.mark.parametrize("above", ["photos", "birds/photos", "birds/2024/photos"])
def test_a_folder_given_some_levels_too_high_is_told_with_the_right_one(tmp_path: Path, above: str) -> None:
    make(tmp_path, f"{above}/owl/1.png", f"{above}/wren/2.png")
    with pytest.raises(
        InputError, match=rf"Did you mean DATA={tmp_path}/{above} \(class folders: 2 files in 2 classes\)"
    ):
        read_layout(str(tmp_path))


def test_an_empty_class_folder_in_eval_or_test_is_noted(tmp_path: Path) -> None:
    folder = make(
        tmp_path, *(f"{split}/{label}/1.png" for split in ("train", "val", "test") for label in ("owl", "wren"))
    )
    (folder / "val/wren/1.png").unlink()
    listing = read_layout(str(folder))
    assert (listing.classes(), listing.remarks) == (["owl", "wren"], ("without files: val/wren",))
    (folder / "val/wren").rmdir()
    assert read_layout(str(folder)).classes() == ["owl", "wren"]
    (folder / "train/wren/1.png").unlink()
    with pytest.raises(InputError, match=r"class folder train/wren in .* holds no files"):
        read_layout(str(folder))


def test_an_empty_split_folder_is_noted(tmp_path: Path) -> None:
    (make(tmp_path, "train/a/1.png", "train/b/1.png") / "val").mkdir()
    listing = read_layout(str(tmp_path))
    assert listing.given == ("train",)
    assert listing.remarks == ("the folder val is empty",)


def test_a_table_that_is_not_understood_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "owl/1.png", "wren/2.png", "labels.xlsx")
    write_rows(folder / "classes.csv", "number,latin", "0,Strix")
    assert [remark[:66] for remark in read_layout(str(folder)).remarks] == [
        "not read: labels.xlsx; save it as CSV to have it read",
        "not used: classes.csv has no column of file names; its columns are",
    ]
    flat = make(tmp_path / "flat", "1.png", "2.png")
    write_rows(flat / "classes.csv", "1.png,owl", "2.png,wren")
    said = r"classes\.csv has no first line that names its columns \(1\.png, owl\): put one before it"
    with pytest.raises(InputError, match=said):
        read_layout(str(flat))
    (flat / "classes.csv").write_text("file_name,label\n" + (flat / "classes.csv").read_text())
    assert read_layout(str(flat)).classes() == ["owl", "wren"]


def test_a_text_beside_the_images_that_may_say_the_labels_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "img/1.png", "img/2.png", "labels.txt", "README.txt")
    with pytest.raises(InputError, match=r"not read: labels\.txt; save what says the labels as CSV"):
        read_layout(str(folder))


def test_a_metadata_file_may_be_told_by_its_name_in_every_folder(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "train/2.png")
    write_rows(tmp_path / "train/about.csv", "file_name,label,camera", "1.png,a,x", "2.png,b,y")
    listing = read_layout(str(tmp_path), metadata="about.csv")
    assert listing.metadata.values("train/2.png") == {"camera": "y"}


def test_classes_that_differ_in_case_only_are_noted(tmp_path: Path) -> None:
    assert read_layout(str(make(tmp_path, "Owl/1.png", "owl/2.png"))).remarks == (
        "classes of their own, though they differ in case or Unicode only: Owl and owl; if these are the same, write "
        "them alike",
    )
    decomposed = unicodedata.normalize("NFD", "Käfer")
    (remark,) = read_layout(str(make(tmp_path / "b", "Käfer/1.png", f"{decomposed}/2.png"))).remarks
    assert rf"{decomposed} ('Ka\u0308fer') and Käfer;" in remark


def test_labels_that_contradict_class_folders_stop_until_one_is_told(tmp_path: Path) -> None:
    folder = make(tmp_path, "owl/1.png", "owl/2.png", "wren/3.png")
    write_rows(folder / "metadata.csv", "file_name,label", "owl/1.png,owl", "owl/2.png,wren", "wren/3.png,wren")
    with pytest.raises(InputError, match=r"1 files lie in a folder of another name .*owl/2\.png: wren"):
        read_layout(str(folder))
    assert listed(read_layout(str(folder), "metadata"))["owl/2.png"] == ("wren", "")
    listing = read_layout(str(folder), "class_folders")
    assert listed(listing)["owl/2.png"] == ("owl", "")
    assert "not used: the column label of metadata.csv, as folders say the classes" in listing.remarks


def test_a_column_that_may_be_another_kind_of_class_is_not_taken_for_that_of_the_folders(tmp_path: Path) -> None:
    folder = make(tmp_path, "owl/1.png", "wren/2.png", "cat/3.png", "dog/4.png")
    rows = ("owl/1.png,bird", "wren/2.png,bird", "cat/3.png,mammal", "dog/4.png,mammal")
    write_rows(folder / "metadata.csv", "file_name,category", *rows)
    with pytest.raises(InputError, match=r"4 files lie in .*owl/1\.png: bird.* Set data\.layout to metadata if"):
        read_layout(str(folder))
    assert read_layout(str(folder), "metadata").classes() == ["bird", "mammal"]
    assert read_layout(str(folder), columns={"label": "category"}).classes() == ["bird", "mammal"]
    assert read_layout(str(folder), "class_folders").classes() == ["cat", "dog", "owl", "wren"]
    slices = read_layout(str(folder), columns={"label": None})
    assert (slices.layout, slices.metadata.columns) == ("class_folders", ("category",))
    write_rows(folder / "metadata.csv", "file_name,category", *(f"{row[:-1]}-{row[:3]}" for row in rows))
    assert read_layout(str(folder)).layout == "metadata", "another name for the same classes"


def test_a_column_that_the_settings_name_is_not_passed_over(tmp_path: Path) -> None:
    write_rows(make(tmp_path, "owl/1.png", "wren/2.png") / "labels.csv", "file,kind", "1.png,a", "2.png,b")
    with pytest.raises(InputError, match=r"data\.columns\.label is 'king'"):
        read_layout(str(tmp_path), columns={"label": "king"})


def test_a_table_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = make(tmp_path, "images/1.png", "images/2.png")
    write_rows(folder / "annotations/labels.csv", "image,label", "1.png,owl", "2.png,wren")
    with pytest.raises(InputError, match=r"If annotations/labels\.csv names .*, set data\.metadata to it"):
        read_layout(str(folder))
    assert read_layout(str(folder), metadata="annotations/labels.csv").classes() == ["owl", "wren"]


def test_a_table_beside_another_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "1.png", "2.png")
    write_rows(folder / "labels.csv", "image,label", "1,owl", "2,wren")
    write_rows(folder / "metadata.csv", "a,b", "1,2")
    assert any("metadata.csv has no column of file names" in remark for remark in read_layout(str(folder)).remarks)
    write_rows(folder / "metadata.csv", "image,label", "1,hawk", "2,kite")
    listing = read_layout(str(folder))
    assert listing.classes() == ["hawk", "kite"]
    assert "not used: labels.csv, as metadata.csv is read; data.metadata names another" in listing.remarks


def test_unlabeled_test_images_and_sample_submissions_are_not_trained_on(tmp_path: Path) -> None:
    """Its table of dummy labels for the test images must not be trained on, or judged by."""
    folder = make(tmp_path, *(f"{split}/{number}.png" for split in ("train", "test") for number in range(3)))
    write_rows(folder / "train.csv", "id,label", "0,a", "1,b", "2,a")
    listing = read_layout(str(folder))
    assert {file.path for file in listing.files if not file.problem} == {"train/0.png", "train/1.png", "train/2.png"}
    assert 'none of the 3 files in test has a label; data.ignore: ["/test/"] leaves them out' in listing.remarks
    write_rows(folder / "sample_submission.csv", "id,label", "test/0,a", "test/1,a")
    with pytest.raises(InputError, match=r"holds several tables .* as data\.metadata: train\.csv"):
        read_layout(str(folder))
    assert read_layout(str(folder), metadata="train.csv").given == ("train",)


def test_no_part_of_given_splits_is_proposed_as_the_data(tmp_path: Path) -> None:
    make(tmp_path, *(f"{split}/images/{label}/1.png" for split in ("train", "test") for label in "ab"))
    with pytest.raises(InputError, match="holds folders itself") as error:
        read_layout(str(tmp_path))
    assert "Did you mean" not in str(error.value)


def test_a_table_without_rows_says_nothing(tmp_path: Path) -> None:
    write_rows(make(tmp_path, "owl/1.png", "wren/2.png") / "metadata.csv", "file_name,label")
    assert read_layout(str(tmp_path)).remarks == ("not used: metadata.csv has no rows",)


def test_the_advice_to_ignore_a_folder_helps(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "train/b/1.png", "extra/c/1.png")
    with pytest.raises(InputError, match=r'data\.ignore: \["/extra/"\]'):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), ignore=["/extra/"]).classes() == ["a", "b"]


def test_flat_files_that_are_named_for_their_classes_are_told(tmp_path: Path) -> None:
    make(tmp_path / "a", *(f"{name}{number}.jpg" for name in ("cat.", "big dog_") for number in (1, 22, 333)), "x.txt")
    with pytest.raises(InputError, match=r"seem to say the class: big dog, cat\. Move those of each into a folder"):
        read_layout(str(tmp_path / "a"))
    make(tmp_path / "b", *(f"IMG_{number}.jpg" for number in range(9)), "owl.jpg")
    with pytest.raises(InputError, match=r"no folders of classes\. Expected"):
        read_layout(str(tmp_path / "b"))


def test_splits_in_a_table_without_names_of_columns_are_not_lost(tmp_path: Path) -> None:
    make(tmp_path, "owl/1.png", "owl/2.png", "wren/3.png", "wren/4.png")
    rows = [f"{split},gs://bucket/{path},x" for split, path in (("training", "owl/1.png"), ("test", "owl/2.png"))]
    rows += ["training,gs://bucket/wren/3.png,x", "test,gs://bucket/wren/4.png,x"]
    write_rows(tmp_path / "import.csv", *rows)
    with pytest.raises(InputError, match=r"names an image and a split.*such as split,file_name,label"):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), ignore=["import.csv"]).given == ()
    write_rows(tmp_path / "import.csv", "split,file_name,label", *rows)
    assert read_layout(str(tmp_path), layout="class_folders").given == ("train", "test")


@pytest.mark.parametrize("header", ["path,is_test", "path,train", "path,split"])
def test_splits_that_are_given_in_another_way_stop(tmp_path: Path, header: str) -> None:
    make(tmp_path, "owl/1.png", "owl/2.png", "wren/3.png", "wren/4.png")
    rows = ("owl/1.png,0", "owl/2.png,1", "wren/3.png,0", "wren/4.png,1")
    if header == "path,split":
        rows = tuple(row.replace(",1", ",holdout").replace(",0", ",train") for row in rows)
    write_rows(tmp_path / "labels.csv", header, *rows)
    with pytest.raises(InputError, match=r"labels\.csv: .* seems to say which .*set data\.columns\.split to null"):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), columns={"split": None}).given == ()
    write_rows(tmp_path / "labels.csv", "path,is_test", "sea/1.png,0", "sea/2.png,1")
    assert read_layout(str(tmp_path)).given == (), "a table of other files"


def test_lists_of_splits_stop_until_they_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "owl/1.png", "wren/2.png", "wren/3.png", "trainval.txt", "test.txt")
    with pytest.raises(InputError, match=r'set data\.ignore to \["/test\.txt", "/trainval\.txt"\]'):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), ignore=["/test.txt", "/trainval.txt"]).classes() == ["owl", "wren"]
    make(tmp_path / "split", *(f"{split}/{label}/1.png" for split in ("train", "test") for label in "ab"), "train.txt")
    assert read_layout(str(make(tmp_path / "split", "test.txt"))).given == ("train", "test")


def test_a_metadata_file_elsewhere_is_told_with_the_way(tmp_path: Path) -> None:
    write_rows(make(tmp_path, "photos/owl/1.png", "photos/wren/2.png") / "labels.csv", "file,cam", "1.png,a", "2.png,b")
    with pytest.raises(InputError, match="give a folder that holds the images and that file as the data folder"):
        read_layout(f"{tmp_path}/photos", metadata="../labels.csv")


def test_where_one_split_is_flat_labels_are_needed_for_all(tmp_path: Path) -> None:
    make(tmp_path, "train/owl/1.png", "train/wren/2.png", "val/3.png", "val/4.png")
    with pytest.raises(InputError, match=r"write a metadata\.csv with file_name and label into each of train, val\."):
        read_layout(str(tmp_path))
    write_rows(tmp_path / "val/metadata.csv", "file_name,label", "3.png,owl", "4.png,wren")
    write_rows(tmp_path / "train/metadata.csv", "file_name,label", "owl/1.png,owl", "wren/2.png,wren")
    assert read_layout(str(tmp_path)).given == ("train", "eval")


def test_an_empty_class_folder_may_be_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "owl/1.png", "wren/2.png")
    (tmp_path / "swan").mkdir()
    with pytest.raises(InputError, match=r'data\.ignore: \["/swan/"\] passes over it'):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), ignore=["/swan/"]).classes() == ["owl", "wren"]


def test_a_hidden_folder_is_said(tmp_path: Path) -> None:
    listing = read_layout(str(make(tmp_path, "owl/1.png", "wren/2.png", ".swan/3.png", ".DS_Store")))
    assert listing.notes() == ["ignored: 1 hidden (.swan/)"]


def test_parts_of_an_archive_are_no_classes(tmp_path: Path) -> None:
    """As of HAM10000, whose labels are in the column dx."""
    make(tmp_path, "images_part_1/1.png", "images_part_1/2.png", "images_part_2/3.png", "images_part_2/4.png")
    write_rows(tmp_path / "HAM_metadata.csv", "lesion_id,image_id,dx", "a,1,nv", "b,2,mel", "c,3,nv", "d,4,bcc")
    write_rows(tmp_path / "pixels.csv", ",".join(f"pixel{i}" for i in range(2352)), ",".join("0" * 2352))
    with pytest.raises(
        InputError, match=r"its columns are lesion_id, image_id, dx\. .* set data\.columns\.label to it"
    ):
        read_layout(str(tmp_path))
    listing = read_layout(str(tmp_path), columns={"label": "dx"})
    assert listing.classes() == ["bcc", "mel", "nv"]
    (remark,) = (remark for remark in listing.remarks if "pixels.csv" in remark)
    assert "pixel9 and 2,342 more" in remark
    assert read_layout(str(tmp_path), "class_folders").classes() == ["images_part_1", "images_part_2"]


@pytest.mark.parametrize("rows", [("owl/1.png,wren",), ("owl/1.png,owl", "wren/1.png,wren")])
def test_a_list_of_few_images_in_class_folders_is_no_table_of_labels(tmp_path: Path, rows: tuple[str, ...]) -> None:
    folder = make(tmp_path, *(f"{label}/{number}.png" for label in ("owl", "wren") for number in range(5)))
    write_rows(folder / "corrections.csv", "file,label", *rows)
    with pytest.raises(InputError, match=r"corrections\.csv labels \d of 10 files.* data\.layout to class_folders if"):
        read_layout(str(folder))
    assert len(listed(read_layout(str(folder), "class_folders"))) == 10


def test_what_holds_images_in_other_ways_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 2 files \(2 \.zip\) and no folders of classes\. Unpack the archives"):
        read_layout(str(make(tmp_path / "a", "train.zip", "test.zip")))
    shards = [f"train-{number:05}-of-00008.parquet" for number in range(8)]
    with pytest.raises(InputError, match=r"parquet; save a table of labels as CSV to have that read\. Expected"):
        read_layout(str(make(tmp_path / "b", *shards)))


def test_batches_with_a_table_of_labels_in_each_are_no_classes(tmp_path: Path) -> None:
    make(tmp_path, *(f"{city}/{number}.png" for city in ("berlin", "paris") for number in range(2)))
    for city in ("berlin", "paris"):
        write_rows(tmp_path / city / "labels.csv", "file,label", "0.png,owl", "1.png,wren")
    with pytest.raises(InputError, match=r"berlin/labels\.csv gives .* Set data\.metadata to labels\.csv to have"):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), metadata="labels.csv").classes() == ["owl", "wren"]
    assert read_layout(str(tmp_path), "class_folders").classes() == ["berlin", "paris"]
    for city in ("berlin", "paris"):  # as GTSRB
        write_rows(tmp_path / city / "labels.csv", "file,label", "0.png,1", "1.png,1")
    assert read_layout(str(tmp_path)).layout == "class_folders"
