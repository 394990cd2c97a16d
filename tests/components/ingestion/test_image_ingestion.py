"""What an ingestion counted is compared with what was listed before anything was read."""

import pytest

from components.ingestion.image_folder import DataFolder, ListedFile
from components.ingestion.image_ingestion import content_hash, count
from components.ingestion.image_splits import Assignment, ImageFacts
from components.ingestion.layouts.listing import Listing
from core.artifacts.ingest_record import ClassCounts, DuplicateGroup, IngestCounts, Reject

FACTS = [ImageFacts(f"a/{i}.png", "a", "", "", "", "") for i in range(3)]
SPLITS = {image.path: "train" for image in FACTS}
REJECTS = [Reject("a/bad.png", "a", "open", "empty")]
IGNORED = [Reject("b/page", "b", "identify", "no picture: without an ending, by its content")]


def counted(
    listed: int,
    layout: str = "class_folders",
    splits: dict[str, str] = SPLITS,
    duplicates: tuple[DuplicateGroup, ...] = (),
) -> IngestCounts:
    files = [ListedFile(f"{i}.png") for i in range(listed)]
    listing = Listing(DataFolder("photos"), layout, files, ignored=[Reject(".git/", "", "find", "hidden")])
    left_out = [Reject(image.path, image.label, "contradicting", "") for image in FACTS if image.path not in splits]
    return count(listing, FACTS, REJECTS, Assignment(splits, left_out, list(duplicates)), IGNORED)


@pytest.mark.parametrize(("listed", "layout"), [(5, "class_folders"), (1, "tfrecords")])
def test_found_is_what_was_listed_and_what_was_ignored(listed: int, layout: str) -> None:
    counts = counted(listed, layout)
    assert (counts.found, counts.ignored, counts.rejected, counts.read) == (6, 2, 1, 3)
    assert counts.splits == {"train": 3, "eval": 0, "test": 0}
    assert counts.ignored_by == {"hidden": 1, IGNORED[0].reason: 1}
    assert counts.classes == {
        "a": ClassCounts({"train": 3, "eval": 0, "test": 0}, 1),
        "b": ClassCounts({"train": 0, "eval": 0, "test": 0}, 0),
    }


def test_an_image_that_is_left_out_was_found_and_is_of_its_class() -> None:
    counts = counted(5, splits={"a/0.png": "train", "a/1.png": "test"})
    assert (counts.found, counts.ignored, counts.rejected, counts.left_out, counts.read) == (6, 2, 1, 1, 2)
    assert counts.classes["a"] == ClassCounts({"train": 1, "eval": 0, "test": 1}, 1, 1)


@pytest.mark.parametrize("listed", [4, 6])
def test_a_file_that_is_not_accounted_for_is_an_internal_error(listed: int) -> None:
    with pytest.raises(ValueError, match=f"{listed} files were listed; 3 were read, 1 rejected and 1 ignored"):
        counted(listed)


def test_the_hash_of_the_content_is_that_of_path_bytes_and_class() -> None:
    images = [ImageFacts(f"{i}.png", "a", "train", "g", f"hash{i}", f"p{i}") for i in range(3)]
    first = content_hash(images)
    assert len(first) == 64
    assert content_hash([image._replace(split="", group="", pixels="") for image in reversed(images)]) == first
    for change in ({"path": "x.png"}, {"sha256": "other"}, {"label": "b"}):
        assert content_hash([images[0]._replace(**change), *images[1:]]) != first


def test_a_group_across_splits_is_no_duplicate() -> None:
    paths = list(SPLITS)
    same = DuplicateGroup("identical", paths[:2], ["a"] * 2, ["train"] * 2)
    group = DuplicateGroup("group", paths, ["a"] * 3, ["train", "train", "eval"])
    assert counted(5, duplicates=(same, group)).duplicates == 1
