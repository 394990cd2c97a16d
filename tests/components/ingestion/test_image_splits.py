import hashlib
import random

import pytest

from components.ingestion.image_splits import Assignment, ImageFacts, assign
from components.ingestion.near_duplicates import describe
from tests.components.conftest import detailed

WEIGHTS = {"train": 8, "eval": 1, "test": 1}


def image(path: str, pixels: str = "", label: str = "a", split: str = "", group: str = "", picture: int | None = None):
    """Facts; of what is not said, the file's name decides."""
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    likeness = describe(detailed(picture)) if picture is not None else None
    return ImageFacts(path, label, split, group, sha256, pixels or sha256, *(likeness or ()))


def together(found: Assignment, *paths: str) -> bool:
    return len({found.splits[path] for path in paths}) == 1


def test_shares_are_near_their_weights_and_alone_a_picture_is_where_its_hash_says() -> None:
    images = [image(f"{i}.png") for i in range(2000)]
    found = assign(images, WEIGHTS, 6)
    sizes = {split: sum(s == split for s in found.splits.values()) for split in WEIGHTS}
    assert 1500 < sizes["train"] < 1700 and min(sizes["eval"], sizes["test"]) > 150
    for one in images[:50]:
        place = int(one.sha256, 16) % 10
        assert found.splits[one.path] == ("train" if place < 8 else "eval" if place == 8 else "test")


def test_identical_pictures_share_a_split_and_are_listed() -> None:
    images = [image(f"{i}-{copy}.png", pixels=f"p{i}", label="ab"[copy]) for i in range(60) for copy in range(2)]
    found = assign(images, WEIGHTS, None)
    assert all(together(found, f"{i}-0.png", f"{i}-1.png") for i in range(60))
    assert [(d.kind, d.labels) for d in found.duplicates] == [("identical", ["a", "b"])] * 60


def test_whatever_is_tied_together_by_any_chain_shares_a_split() -> None:
    rings = []
    for i in range(60):  # a and b by pixels, b and c by group, c and d by likeness
        rings += [
            image(f"{i}/a", pixels=f"p{i}"),
            image(f"{i}/b", pixels=f"p{i}", group=f"g{i}"),
            image(f"{i}/c", group=f"g{i}", picture=i),
            image(f"{i}/d", picture=i),
        ]
    found = assign(rings, WEIGHTS, 6)
    assert all(together(found, *(f"{i}/{name}" for name in "abcd")) for i in range(60))
    assert len(set(found.splits.values())) == 3
    assert [d.kind for d in found.duplicates if d.paths[0].startswith("7/")] == ["identical", "near"]


def test_near_duplicates_are_looked_for_only_if_asked() -> None:
    images = [image(f"{i}/{name}", picture=i) for i in range(60) for name in "ab"]
    found = assign(images, WEIGHTS, None)
    assert not found.duplicates
    assert not all(together(found, f"{i}/a", f"{i}/b") for i in range(60))


def test_a_group_stays_where_it_is_as_images_join_it() -> None:
    images = [image(f"{i}.png", group=f"g{i % 40}") for i in range(400)]
    few, many = assign(images[:80], WEIGHTS, None), assign(images, WEIGHTS, None)
    assert many.splits.items() >= few.splits.items()


def test_the_order_of_the_images_does_not_matter() -> None:
    images = [image(f"{i}.png", pixels=f"p{i // 2}", picture=i // 3) for i in range(90)]
    shuffled = random.Random(0).sample(images, len(images))
    assert assign(images, WEIGHTS, 6) == assign(shuffled, WEIGHTS, 6)


def test_given_splits_are_kept_though_they_leak() -> None:
    images = [image(f"{split}/{i}", pixels=f"p{i}", split=split) for split in WEIGHTS for i in range(20)]
    found = assign(images, WEIGHTS, 6)
    assert all(path.startswith(split) for path, split in found.splits.items())
    assert {tuple(sorted(d.splits)) for d in found.duplicates} == {("eval", "test", "train")}


def test_a_group_in_several_given_splits_is_told() -> None:
    images = [image(f"{split}/{i}", label="ab"[i % 2], split=split, group="p1") for split in WEIGHTS for i in range(2)]
    images += [image("train/x", split="train", group="p2"), image("train/y", split="train", group="p2")]
    images += [image("train/z", split="train"), image("test/z", split="test")]
    (found,) = assign(images, WEIGHTS, 6).duplicates
    assert (found.kind, found.paths) == ("group", sorted(f"{split}/{i}" for split in WEIGHTS for i in range(2)))
    assert found.splits == [path.split("/")[0] for path in found.paths]


def test_a_split_made_from_train_takes_nothing_that_is_in_a_given_one() -> None:
    images = [image(f"train/{i}", pixels=f"p{i}", split="train") for i in range(100)]
    images += [image(f"test/{i}", pixels=f"p{i}", split="test") for i in range(50)]
    found = assign(images, {"train": 1, "eval": 1, "test": 1}, None)
    assert all(found.splits[f"test/{i}"] == "test" for i in range(50))
    assert all(found.splits[f"train/{i}"] == "train" for i in range(50)), "tied to the given test split"
    made = [found.splits[f"train/{i}"] for i in range(50, 100)]
    assert set(made) == {"train", "eval"} and 10 < made.count("eval") < 40


@pytest.mark.parametrize("images", [[], [image("1.png")]])
def test_no_images_or_one_are_no_special_case(images: list[ImageFacts]) -> None:
    found = assign(images, WEIGHTS, 6)
    assert len(found.splits) == len(images) and found.duplicates == []
