"""What is understood of tables: their columns, and their rows' files."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.ingestion.layouts.listing import Listing
from core.errors import InputError
from tests.components.ingestion.listings import read_layout

Read = Callable[..., Listing]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Lists a folder of flat images and a table, of these lines or bytes."""

    def make(table: str | bytes, *files: str, name: str = "metadata.csv", **options: Any) -> Listing:
        for file in files or ("img/1.png", "img/2.png", "img/3.png"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        (tmp_path / name).write_bytes(table if isinstance(table, bytes) else table.encode())
        return read_layout(str(tmp_path), **options)

    return make


def labels(listing: Listing) -> dict[str, str]:
    return {file.path: file.label for file in listing.files if not file.problem}


def rejects(listing: Listing) -> dict[str, str]:
    return {file.path: file.problem for file in listing.files if file.problem}


FOUR = [f"img/{number}.png" for number in range(1, 5)]
ALL = {"img/1.png": "owl", "img/2.png": "wren", "img/3.png": "owl"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " , "])
@pytest.mark.parametrize("header", [("file_name", "label"), ("Filename", "Class"), ("image_path", "CATEGORY")])
def test_usual_column_names_are_found_in_every_dialect(
    read: Read, encoding: str, separator: str, header: tuple[str, str]
) -> None:
    rows = [header, ("img/1.png", "owl"), ("img/2.png", "wren"), ("img/3.png", "owl")]
    listing = read("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    assert labels(listing) == ALL
    assert f"file names in {header[0]}, labels in {header[1]}" in listing.remarks[0]
    assert "UTF-16" in listing.remarks[0] or encoding != "utf-16"


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("img/1.png", "img/2.png", "img/3.png"), ""),
        (("./img/1.png", "img\\2.png", "/img/3.png"), ""),
        (("1", "2", "3"), "3 of 3 rows of metadata.csv write a path otherwise than the folder does: 1 is img/1.png"),
        (("IMG/1.PNG", "img/2.png", "img/3.png"), "1 of 3 rows of"),
        (("/data/b/img/1.png", "/data/b/img/2.png", "/data/b/img/3.png"), "3 of 3 rows of"),
        (("D:\\b\\img\\1.png", "D:\\b\\img\\2.png", "D:\\b\\img\\3.png"), "3 of 3 rows of"),
    ],
)
def test_paths_in_tables_are_matched_as_people_write_them(read: Read, names: tuple[str, ...], note: str) -> None:
    listing = read(
        "file_name,label\n" + "".join(f"{n},{label}\n" for n, label in zip(names, ALL.values(), strict=True))
    )
    assert labels(listing) == ALL
    assert not rejects(listing)
    assert len(listing.remarks) == 1 + bool(note) and note in listing.remarks[-1]


def test_rows_without_a_file_are_rejects_with_their_lines(read: Read) -> None:
    listing = read("file_name,label\nimg/1.png,owl\n\nimg/2.png,wren\nimg/9.png,robin\n,owl\nimg/3.png,owl\n")
    assert rejects(listing) == {
        "img/9.png": "metadata.csv, line 5: there is no such file",
        "metadata.csv:6": "metadata.csv, line 6: it names no file",
    }
    assert listing.classes() == ["owl", "robin", "wren"], "a class is not lost with its files"
    assert "2 of 5 rows of metadata.csv have no file; they count as rejects (line 5: img/9.png" in listing.remarks[1]


def test_where_most_rows_have_no_file_the_run_stops_with_what_would_fit(read: Read) -> None:
    with pytest.raises(InputError) as error:
        read("file_name,label\nphotos/1.png,owl\nphotos/2.jpg,wren\nimg/3.png,owl\n")
    assert "of 2 of 3 rows there is no file by file_name" in str(error.value)
    assert "line 2: photos/1.png: there is no such file; did you mean img/1.png?" in str(error.value)
    with pytest.raises(InputError, match="names files in 2 folders that are not in the data folder"):
        read("file_name,label\na/img/1.png,owl\nb/img/2.png,wren\nimg/3.png,owl\n")


def test_a_second_row_is_noted_or_sets_the_file_aside(read: Read) -> None:
    listing = read("file_name,label\nimg/1.png,owl\nimg/2.png,wren\nimg/3.png,owl\nimg/1.png,owl\n3,robin\n")
    assert labels(listing) == {"img/1.png": "owl", "img/2.png": "wren"}
    assert rejects(listing) == {"img/3.png": "metadata.csv, line 4 says 'owl' and metadata.csv, line 6 'robin'"}
    assert "2 rows of metadata.csv are about files that had a row already" in listing.remarks


def test_a_row_with_too_many_or_few_values_sets_its_file_aside(read: Read) -> None:
    listing = read(
        "file_name,camera,label\nimg/1.png,x,owl\nimg/2.png,wren\nimg/3.png,y,owl,big\n4.png,x,wren\n1,,owl\n", *FOUR
    )
    assert rejects(listing) == {
        "img/2.png": "metadata.csv, line 3 has 2 values; the first line names 3 columns",
        "img/3.png": "metadata.csv, line 4 has 4 values; the first line names 3 columns",
    }


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("image_id,file_name,label\n7,img/1.png,owl\n8,img/2.png,wren\n9,img/3.png,owl\n", {}),
        ("name,label,path\nx,owl,img/1.png\ny,wren,img/2.png\nz,owl,img/3.png\n", {}),
        ("file,image,class\n1.png,img/1.png,owl\n2.png,img/2.png,wren\n3.png,img/3.png,owl\n", {}),
        ("file,class_id,class\nimg/1.png,0,owl\nimg/2.png,1,wren\nimg/3.png,0,owl\n", {}),
        ("file,kind,label\nimg/1.png,owl,x\nimg/2.png,wren,y\nimg/3.png,owl,x\n", {"label": "kind"}),
        ("a,b\nimg/1.png,owl\nimg/2.png,wren\nimg/3.png,owl\n", {"file_name": "a", "label": "b"}),
        (",file_name,label\n0,img/1.png,owl\n1,img/2.png,wren\n2,img/3.png,owl\n", {}),
    ],
)
def test_columns_are_told_apart_by_what_they_hold_or_by_the_settings(
    read: Read, table: str, columns: dict[str, str]
) -> None:
    assert labels(read(table, columns=columns)) == ALL


@pytest.mark.parametrize(
    ("table", "columns", "words"),
    [
        (
            "file,label,species\nimg/1.png,a,x\nimg/2.png,b,x\n",
            {},
            r"label, species could each be .*data\.columns: \{label",
        ),
        (
            "file,image,label\nimg/1.png,img/2.png,a\nimg/2.png,img/1.png,b\n",
            {},
            "file, image could each be the column",
        ),
        (
            "file,kind\nimg/1.png,a\n",
            {"label": "king"},
            r"data\.columns\.label is 'king'; the columns of .* are file, kind",
        ),
        ("file,label,label\nimg/1.png,a,b\n", {}, "several columns label"),
        ("file_name,label\n", {}, "only one class folder, img. not used: metadata.csv has no rows"),
        ("x,label\nimg/1.png,a\n", {}, "has no column of file names; its columns are x, label"),
    ],
)
def test_what_may_mean_several_things_stops(read: Read, table: str, columns: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(table, columns=columns)


def test_other_columns_become_slices_but_those_that_every_image_has(read: Read) -> None:
    listing = read("file_name,label,camera,format\nimg/1.png,owl,A,x\nimg/2.png,wren,B,y\n")
    assert listing.metadata.columns == ("camera",)
    assert listing.metadata.values("img/1.png") == {"camera": "A"}
    assert listing.metadata.values("img/3.png") == {"camera": ""}, "a file without a row has empty values"
    assert listing.remarks[0].endswith("slices: camera")


def test_numbers_may_be_labels(read: Read) -> None:
    listing = read("id,label\n1,0\n2,1\n3,0\n", "1.png", "2.png", "3.png")
    assert listing.classes() == ["0", "1"]
    assert "the classes are called by the numbers that label them: 0, 1" in listing.remarks


@pytest.mark.parametrize("name", ["labels.csv", "train.csv", "annotations.tsv", "Meta.JSONL"])
def test_a_table_by_any_name_that_names_the_images(read: Read, name: str) -> None:
    table = "file_name\tlabel\n1\towl\n2\twren\n3\towl\n"
    if name.endswith("JSONL"):
        rows = (("1", "owl"), ("2", "wren"), ("3", "owl"))
        table = "\n".join(f'{{"file_name": "{number}", "label": "{label}"}}' for number, label in rows)
    listing = read(table, name=name)
    assert labels(listing) == ALL
    assert name in listing.remarks[0]


def test_a_table_without_labels_gives_slices_of_class_folders(read: Read) -> None:
    table = "file_name,camera\nowl/1.png,A\n./wren\\2.png,B\n"
    listing = read(table, "owl/1.png", "wren/2.png")
    assert listing.layout == "class_folders"
    assert listing.metadata.rows == {"owl/1.png": {"camera": "A"}, "wren/2.png": {"camera": "B"}}
    with pytest.raises(
        InputError, match=r"line 4: a second row for owl/1\.png, with other values than metadata.csv, line 2"
    ):
        read(table + "owl/1.png,C\n")


def test_many_rows_take_little_time(tmp_path: Path) -> None:
    """Exact paths, and such that leave out the folder and the ending: at most 30 CPU seconds for a million."""
    from components.ingestion.layouts.image_metadata import LabelTable, join
    from components.ingestion.layouts.named_files import FileNames

    count = 100_000
    paths = [f"img/{number % 100}/{number:07}.png" for number in range(count)]
    for names in (paths, [path[-11:-4] for path in paths]):
        (tmp_path / "metadata.csv").write_text(
            "file_name,label\n" + "".join(f"{name},{number % 3}\n" for number, name in enumerate(names))
        )
        began = time.process_time()
        files = FileNames(paths)
        rows = join([LabelTable(str(tmp_path), "metadata.csv", {}, files)], files, with_labels=True)
        took = time.process_time() - began
        assert len(rows.labels) == count
        assert took < 30 * count / 1_000_000


def test_no_class_is_called_nan(read: Read) -> None:
    listing = read("file,label\n1,owl\n2,NaN\n3,wren\n4,None\n", *FOUR)
    assert listing.classes() == ["None", "owl", "wren"]
    assert rejects(listing) == {"img/2.png": "it has no label in metadata.csv, line 3"}


def test_rows_of_ignored_files_are_no_rejects(read: Read) -> None:
    files = [f"{label}/{number}.png" for label in ("owl", "wren", "swan", "kite") for number in range(3)]
    table = "file,camera\n" + "".join(f"{file},A\n" for file in files)
    listing = read(table, *files, ignore=["/swan/", "/kite/", "wren/*.png", "!wren/1.png"])
    assert not rejects(listing) and listing.classes() == ["owl", "wren"]
    assert listing.remarks[1] == (
        "8 of 12 rows of metadata.csv are about ignored files (line 5: wren/0.png: data.ignore: wren/*.png)"
    )
    assert rejects(read(table + "owl/7.png,A\n", ignore=["/swan/", "/kite/"])).keys() == {"owl/7.png"}


@pytest.mark.parametrize(("one", "zero"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_columns_with_a_one_in_each_row_are_the_labels(read: Read, one: str, zero: str) -> None:
    rows = [("1", one, zero, "A"), ("2", zero, one, "B"), ("3", one, zero, "A")]
    listing = read("image_id, owl, wren,camera\n" + "".join(f"{','.join(row)}\n" for row in rows))

    assert labels(listing) == ALL and listing.metadata.columns == ("camera",)
    assert listing.remarks[0].endswith("labels in owl, wren (a 1 in one of them); slices: camera")


def _splits(folder: Path, table: str) -> None:
    """A folder for each split, with two images and this table."""
    for split in ("train", "valid", "test"):
        (folder / split).mkdir()
        for number in (1, 2):
            (folder / split / f"{number}.png").touch()
        (folder / split / "_classes.csv").write_text(table)


def test_columns_of_ones_in_the_tables_of_splits_are_the_labels(tmp_path: Path) -> None:
    """As Roboflow exports them."""
    _splits(tmp_path, "filename, owl, wren\n1.png, 1, 0\n2.png, 0, 1\n")
    listing = read_layout(str(tmp_path))

    assert {file.path: (file.label, file.split) for file in listing.files} == {
        f"{folder}/{number}.png": (label, split)
        for folder, split in (("train", "train"), ("valid", "eval"), ("test", "test"))
        for number, label in ((1, "owl"), (2, "wren"))
    }


def test_tables_that_are_not_used_for_one_reason_are_told_in_one_sentence(tmp_path: Path) -> None:
    _splits(tmp_path, "filename, owl, wren\n1.png, 1, 1\n2.png, 0, 1\n")
    with pytest.raises(InputError) as stopped:
        read_layout(str(tmp_path))

    said = "test/_classes.csv (as train/_classes.csv, valid/_classes.csv) has no column of labels; its columns are"
    assert said in str(stopped.value) and str(stopped.value).count("no column of labels") == 1


@pytest.mark.parametrize(
    ("table", "files"),
    [
        ("image_id,owl,wren\n1,1,0\n2,1,1\n3,1,0\n", ()),  # two in a row
        ("image_id,owl,wren\n1,1,0\n2,0,0\n3,1,0\n", ()),  # none
        ("image_id,owl\n1,1\n2,1\n3,1\n", ()),  # of one class
    ],
)
def test_columns_of_ones_that_are_no_labels_are_not_taken_for_some(
    read: Read, table: str, files: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match=r"has no column of labels; its columns are image_id, owl"):
        read(table, *files)


def test_columns_of_ones_beside_class_folders_are_slices(read: Read) -> None:
    files = [f"{label}/{number}.png" for label in ("owl", "wren") for number in (1, 2)]
    table = "file_name,indoor,outdoor\n" + "".join(f"{file},{int('1' in file)},{int('2' in file)}\n" for file in files)
    listing = read(table, *files)

    assert listing.classes() == ["owl", "wren"] and listing.metadata.columns == ("indoor", "outdoor")


def test_labels_that_hardly_two_images_share_are_no_classes_unless_told(read: Read) -> None:
    files = [f"img/{number}.png" for number in range(20)]
    table = "file,age,target\n" + "".join(f"{file},{n % 2},{1 + n * 0.37:.2f}\n" for n, file in enumerate(files))
    with pytest.raises(InputError, match=r"20 of 20 images have a label that no other has.*target holds no classes"):
        read(table, *files)

    assert read(table, *files, columns={"label": "age"}).classes() == ["0", "1"]
    assert len(read(table, *files, columns={"label": "target"}).classes()) == 20


def test_addresses_that_end_in_the_files_name_them(read: Read) -> None:
    listing = read("url,label\n" + "".join(f"https://example.com/{p},{label}\n" for p, label in ALL.items()))
    assert labels(listing) == ALL


def test_numbers_of_rows_that_pandas_writes_are_no_slices(read: Read) -> None:
    assert read("Unnamed: 0,file,label\n0,1,owl\n1,2,wren\n2,3,owl\n").metadata.columns == ()


def test_zeros_that_excel_took_off_are_told(read: Read) -> None:
    with pytest.raises(InputError, match=r"names other files \(line 2: 1: .*; did you mean img/001\.png\?\)"):
        read("file,label\n1,owl\n2,wren\n", "img/001.png", "img/002.png", name="labels.csv")


@pytest.mark.parametrize("third", ["owl,night", "owl | wren", '["owl", "night"]', "sky; wren", "owl wren"])
def test_lists_of_labels_are_no_classes_unless_told(read: Read, third: str) -> None:
    table = f"image\tlabels\n1.png\towl\n2.png\twren\n3.png\t{third}\n"
    with pytest.raises(InputError, match=r"seem to be lists of labels.*set data.columns.label to labels"):
        read(table, name="metadata.tsv")
    read(table, name="metadata.tsv", columns={"label": "labels"})


def test_names_of_classes_may_have_commas_and_blanks(read: Read) -> None:
    table = 'image,label\n1.png,"bee, honey"\n2.png,red fox\n3.png,fox\n'
    assert read(table).classes() == ["bee, honey", "fox", "red fox"]


def test_of_columns_of_names_that_fit_no_file_that_of_pictures_is_told(read: Read) -> None:
    with pytest.raises(InputError, match=r"line 2: upload/1/a-1.jpg: there is no such file"):
        read("id,image,choice\n7,upload/1/a-1.jpg,owl\n8,upload/1/a-2.jpg,wren\n", name="project.csv")
