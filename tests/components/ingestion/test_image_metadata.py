import json
from pathlib import Path

import pytest

from components.ingestion.image_metadata import read_metadata
from core.errors import InputError

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
        (
            "file_name,brightness\n",
            "none of resolution, brightness, contrast, sharpness, colorfulness, aspect, format",
        ),
        ("file_name,a,a\n", "no two the same"),
        ("file_name,\n", "must have a name each"),
        ('file_name,a\n"cat/1.png,x\n', "line 2: not CSV: unexpected end of data"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_metadata(str(tmp_path), "metadata.csv", KNOWN)
    assert words in str(error.value)


def test_json_lines_say_the_same_as_csv(tmp_path: Path) -> None:
    lines = [
        {"file_name": "cat/1.png", "age": 3, "indoor": True},
        {"camera": "A", "file_name": "dog/1.png", "age": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    metadata = read_metadata(str(tmp_path), "m.jsonl", KNOWN)
    assert metadata.columns == ("age", "indoor", "camera")
    assert metadata.values("cat/1.png") == {"age": "3", "indoor": "true", "camera": ""}
    assert metadata.values("dog/1.png") == {"age": "", "indoor": "", "camera": "A"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}\n", "line 1: not an object with a text file_name"),
        ('{"file_name": 3}\n', "line 1: not an object with a text file_name"),
        ('\n["file_name"]\n', "line 2: not an object"),
        ('{"file_name": "cat/1.png", "box": [1, 2]}\n', "line 1: \\[1, 2\\] is neither text nor a number"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"file_name": "cat/1.png"}{\n', "line 1: not JSON: Extra data"),
        ('{"file_name": "cat/1.png"}\n{"file_name": "cat/1.png"}\n', "line 2: a second row for cat/1.png"),
    ],
)
def test_json_lines_that_do_not_fit_are_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(InputError, match=words):
        read_metadata(str(tmp_path), "m.jsonl", KNOWN)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes("file_name,gr\u00f6\u00dfe\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_metadata(str(tmp_path), "metadata.csv", KNOWN)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no .*other\.csv"):
        read_metadata(str(tmp_path), "other.csv", KNOWN)
