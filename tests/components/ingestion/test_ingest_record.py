"""The record of an ingestion: its counts are compared with what was listed before anything was read."""

from pathlib import Path

import pytest

from components.ingestion import ingest_record
from components.ingestion.image_splits import Duplicates, Facts

FACTS = [Facts(f"a/{i}.png", "a", "", "", "", "", "", "") for i in range(3)]
SPLITS = {image.path: "train" for image in FACTS}
REJECTS = [{"path": "a/bad.png", "label": "a", "stage": "open", "reason": "empty"}]


def write(uri: Path, listed: int | None, duplicates: tuple[Duplicates, ...] = ()) -> dict:
    about = {"ignored": 2, "layout": "class_folders", "given": [], "listed": listed}
    return ingest_record.write(str(uri), FACTS, SPLITS, REJECTS, duplicates, ["train", "eval"], about)


@pytest.mark.parametrize("listed", [4, None])
def test_found_is_what_was_listed_and_what_was_ignored(listed: int | None, tmp_path: Path) -> None:
    counts = write(tmp_path, listed)
    assert (counts["found"], counts["ignored"], counts["rejected"], counts["read"]) == (6, 2, 1, 3)
    assert ingest_record.read_counts(str(tmp_path)).items() >= counts.items()


@pytest.mark.parametrize("listed", [3, 5])
def test_a_file_that_is_not_accounted_for_is_a_fault_of_ours(listed: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{listed} files were listed; 3 were read and 1 rejected"):
        write(tmp_path, listed)


def test_the_hash_of_the_content_is_that_of_path_bytes_and_class() -> None:
    images = [Facts(f"{i}.png", "a", "train", "g", f"hash{i}", f"p{i}", "", "") for i in range(3)]
    first = ingest_record.content_hash(images)
    assert len(first) == 64
    assert (
        ingest_record.content_hash([image._replace(split="", group="", pixels="") for image in reversed(images)])
        == first
    )
    for change in ({"path": "x.png"}, {"sha256": "other"}, {"label": "b"}):
        assert ingest_record.content_hash([images[0]._replace(**change), *images[1:]]) != first


def test_a_group_across_splits_is_no_duplicate(tmp_path: Path) -> None:
    paths = list(SPLITS)
    same, group = (
        Duplicates("identical", paths[:2], ["a"] * 2, ["train"] * 2),
        Duplicates("group", paths, ["a"] * 3, ["train", "train", "eval"]),
    )
    assert write(tmp_path, 4, (same, group))["duplicates"] == 1
    assert ingest_record.read_duplicates(str(tmp_path)) == [same, group]
