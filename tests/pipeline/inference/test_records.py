"""Records of images as JSON lines and CSV."""

import csv
import io
import json

from pipeline.inference import records

GOOD = {
    "path": 'a "b",c.jpg',
    "class": "réd",
    "probability": 0.75,
    "novelty": 0.5,
    "top_k": [{"class": "réd", "probability": 0.75}, {"class": "blue", "probability": 0.25}],
}
WITHHELD = GOOD | {"class": "", "reason": "novelty 0.9951 is above 0.9900"}
BAD = {"path": "b.jpg", "error": "the file is empty"}


def written(file_format: records.Format, top_k: int) -> tuple[str, records.Counts]:
    target = io.StringIO()
    counts = records.write([GOOD, WITHHELD, BAD], target, file_format, top_k)
    return target.getvalue(), counts


def test_json_lines_are_the_records_themselves() -> None:
    text, counts = written("jsonl", 2)

    assert [json.loads(line) for line in text.splitlines()] == [GOOD, WITHHELD, BAD]
    assert "réd" in text
    assert counts == (3, 1)


def test_csv_has_a_column_for_each_class_and_for_what_else_is_known() -> None:
    text, counts = written("csv", 3)

    rows = list(csv.DictReader(io.StringIO(text)))
    assert counts == (3, 1)
    assert rows[0] == {
        "path": GOOD["path"],
        "class": "réd",
        "probability": "0.75",
        "class_1": "réd",
        "probability_1": "0.75",
        "class_2": "blue",
        "probability_2": "0.25",
        "class_3": "",
        "probability_3": "",
        "novelty": "0.5",
        "reason": "",
        "error": "",
    }
    assert rows[1] == rows[0] | {"class": "", "reason": "novelty 0.9951 is above 0.9900"}
    assert (rows[2]["path"], rows[2]["class"], rows[2]["error"]) == ("b.jpg", "", "the file is empty")
    assert set(rows[0]) == set(rows[2])


def test_csv_of_one_class_says_which_is_withheld_too() -> None:
    assert records.header("csv", 1) == "path,class,probability,class_1,probability_1,novelty,reason,error"
    assert records.header("jsonl", 3) is None


def test_csv_holds_no_formulas() -> None:
    line = records.line({"path": "=1+1.jpg", "class": "@x", "probability": 1e-5}, "csv", 1)
    assert line == "'=1+1.jpg,'@x,1e-05,,,,,"
