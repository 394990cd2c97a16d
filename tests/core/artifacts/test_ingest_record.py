"""The record of an ingestion is read as it was written, on local and remote paths, and what is damaged is named."""

import itertools
from pathlib import Path

import pytest
import tensorflow as tf

from core.artifacts import ingest_record
from core.artifacts.ingest_record import DuplicateGroup, Reject, Span
from core.errors import InputError

SAME = DuplicateGroup("identical", ["a/0.png", "b/\u2028\n.png"], ["a", "b"], ["train", "test"])


@pytest.mark.parametrize("remote", [False, True])
def test_entries_are_read_as_they_were_written(remote: bool, tmp_path: Path) -> None:
    folder = f"ram://{tmp_path}" if remote else str(tmp_path)
    if remote:
        tf.io.gfile.makedirs(folder)
    ingest_record.DUPLICATES.write(folder, [SAME])
    assert list(ingest_record.DUPLICATES.read(folder)) == [SAME]
    assert SAME.contradicts and SAME.leaks
    assert tf.io.gfile.listdir(folder) == ["duplicates.jsonl"]


def test_what_fails_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    ingest_record.REJECTS.write(tmp_path, [Reject("a", "", "open", "empty")])
    with pytest.raises(ZeroDivisionError):
        ingest_record.REJECTS.write(tmp_path, (Reject(str(1 // i), "", "", "") for i in (1, 0)))
    assert [reject.path for reject in ingest_record.REJECTS.read(tmp_path)] == ["a"]


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    path = tmp_path / ingest_record.REJECTS.name
    path.write_text('{"path":"a","label":"","stage":"open","reason":"empty"}\n{"path":\n')
    (first,) = itertools.islice(ingest_record.REJECTS.read(tmp_path), 1)
    assert first == Reject("a", "", "open", "empty")
    with pytest.raises(InputError, match=r"rejects\.jsonl is damaged: .*; run the pipeline with SET="):
        list(ingest_record.REJECTS.read(tmp_path))


def test_spans_are_a_property_of_the_examples() -> None:
    spans = [Span(3, None, "day-3"), Span(4, 2, "day-4/v2")]
    assert ingest_record.spans_of({ingest_record.SPANS: ingest_record.spans_property(spans)}) == spans
    assert ingest_record.spans_of({}) == []
