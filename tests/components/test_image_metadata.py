from pathlib import Path

import pytest

from components.image_metadata import read_metadata
from trainer.errors import InputError

KNOWN = ["cat/1.png", "cat/2.png", "dog/1.png"]


def test_columns_become_values_of_the_files(tmp_path: Path) -> None:
    text = '\ufeffcamera,file_name,note\nA,cat/1.png,"one, two"\n\nB,./dog\\1.png,\n'
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    metadata = read_metadata(str(tmp_path), "metadata.csv", KNOWN)
    assert metadata.columns == ("camera", "note")
    assert metadata.values("cat/1.png") == {"camera": "A", "note": "one, two"}
    assert metadata.values("dog/1.png") == {"camera": "B", "note": ""}
    assert metadata.values("cat/2.png") == {"camera": "", "note": ""}, "a file without a row has empty values"


def test_no_name_means_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(str(tmp_path), "", KNOWN).values("cat/1.png") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,camera\n", "has no column file_name; its first line is 'name,camera'"),
        ("", "has no column file_name"),
        ("file_name,camera\ncat/9.png,A\nx.png,B\n", "names 2 files that are not in the data folder: cat/9.png, x.png"),
        ("file_name,camera\ncat/1.png,A\ncat/1.png,B\n", "line 3: a second row for cat/1.png"),
        ("file_name,camera\ncat/1.png\n", "line 2: 1 fields; the first line has 2"),
        ("file_name,brightness\n", "none of resolution, aspect, brightness, format"),
        ("file_name,a,a\n", "no two the same"),
        ("file_name,\n", "must have a name each"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_metadata(str(tmp_path), "metadata.csv", KNOWN)
    assert words in str(error.value)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes("file_name,gr\u00f6\u00dfe\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_metadata(str(tmp_path), "metadata.csv", KNOWN)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no .*other\.csv"):
        read_metadata(str(tmp_path), "other.csv", KNOWN)
