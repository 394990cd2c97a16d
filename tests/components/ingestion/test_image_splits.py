import collections
import hashlib
import random
from typing import Any

import pytest

from components.ingestion.image_splits import Assignment, ImageFacts, assign
from components.ingestion.near_duplicates import describe
from core.artifacts.ingest_record import Reject
from core.settings.data import DataSettings, IngestionConfig, NearDuplicates
from tests.components.conftest import detailed


def settings(weights: dict[str, int] | None = None, distance: int | None = None, **options: Any) -> IngestionConfig:
    """What decides the splits."""
    near = None if distance is None else NearDuplicates(distance)
    data = DataSettings("photos", splits=weights or WEIGHTS, near_duplicates=near, **options)
    return data.ingestion({})


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
    found = assign(images, settings(distance=6))
    sizes = {split: sum(s == split for s in found.splits.values()) for split in WEIGHTS}
    assert 1500 < sizes["train"] < 1700 and min(sizes["eval"], sizes["test"]) > 150
    for one in images[:50]:
        place = int(one.sha256, 16) % 10
        assert found.splits[one.path] == ("train" if place < 8 else "eval" if place == 8 else "test")


def test_identical_pictures_share_a_split_and_are_listed() -> None:
    images = [image(f"{i}-{copy}.png", pixels=f"p{i}") for i in range(60) for copy in range(2)]
    found = assign(images, settings())
    assert all(together(found, f"{i}-0.png", f"{i}-1.png") for i in range(60))
    assert [(d.kind, d.labels) for d in found.duplicates] == [("identical", ["a", "a"])] * 60


@pytest.mark.parametrize("splits", [("", "", "", ""), ("train", "test", "train", "eval")])
def test_all_copies_of_a_picture_with_several_labels_are_left_out_as_if_they_were_not_there(splits) -> None:
    others = [image(f"{i}.png", split=splits[0], group=f"g{i}") for i in range(40)]
    labels = ("owl", "robin", "robin", "wren")
    copies = [
        image(f"gone{i}.png", "p", labels[i], splits[i], group=f"g{i}", picture=7) for i in range(4)
    ]  # which would tie four groups together, and leak between given splits
    found, without = (assign(some, settings(distance=6)) for some in ([*copies, *others], others))
    assert (found.splits, found.duplicates) == (without.splits, [])
    reason = "the same image has 3 labels: owl (gone0.png), robin (gone1.png), wren (gone3.png)"
    assert found.left_out == [Reject(f"gone{i}.png", labels[i], "contradicting", reason) for i in range(4)]


def test_a_given_split_without_a_usable_image_is_not_made_from_train() -> None:
    images = [image(f"{i}.png", split="train") for i in range(200)]
    assert set(assign(images, settings()).splits.values()) == {"train", "eval", "test"}
    assert set(assign(images, settings(), given=("train", "test")).splits.values()) == {"train", "eval"}


def test_a_picture_in_a_thousand_classes_is_told_in_few_words() -> None:
    copies = [image(f"{i:04}.png", "p", f"c{i:04}") for i in range(1000)]
    found = assign(copies, settings())
    assert len(found.left_out) == 1000 and found.left_out[0].reason.endswith("c0009 (0009.png) and 990 more")


def tail(classes: int, sizes: tuple[int, ...] = (1, 2, 3, 4, 5)) -> list[ImageFacts]:
    """Classes of few images; no two are the same."""
    return [image(f"{c}/{i}.png", label=f"c{c}") for c in range(classes) for i in range(sizes[c % len(sizes)])]


def test_every_class_has_images_in_train_and_the_others_stay_where_their_hashes_say() -> None:
    found = assign(tail(500), settings())
    in_train = {path.split("/")[0] for path, split in found.splits.items() if split == "train"}
    assert len(in_train) == 500
    for one in tail(500):
        natural = "train" if (place := int(one.sha256, 16) % 10) < 8 else "eval" if place == 8 else "test"
        if natural == "train":
            assert found.splits[one.path] == "train", "nothing is taken out of train for it"
    assert list(found.splits.values()).count("test") > 100


def test_as_a_class_grows_at_most_one_of_its_images_moves() -> None:
    for label in range(100):
        images, moves = [image(f"{label}/{i}.png") for i in range(12)], 0
        for number in range(1, 12):
            before, now = (assign(images[:n], settings()).splits for n in (number, number + 1))
            moved = [path for path in before if before[path] != now[path]]
            assert len(moved) <= 1 and all(now[path] != "train" for path in moved)
            moves += len(moved)
        assert moves <= 3, "only until its hashes put one there"


def test_as_many_of_each_class_are_in_train_as_are_demanded_if_it_has_them() -> None:
    found = assign(tail(200, (2, 4, 30)), settings(min_class_images=3))
    sizes = collections.Counter(path.split("/")[0] for path, split in found.splits.items() if split == "train")
    assert all(sizes[str(c)] == 2 for c in range(0, 200, 3)) and min(sizes[str(c)] for c in range(1, 200, 3)) == 3


def test_what_is_put_into_train_for_its_class_takes_along_what_belongs_to_it() -> None:
    images = tail(300, (2,))
    images += [image(f"twin{c}.png", pixels=images[2 * c].pixels, label=f"c{c}") for c in range(300)]
    images += [image(f"{c}/near", label=f"d{c}", picture=c) for c in range(80)]
    images += [image(f"{c}/like it", label=f"e{c}", picture=c) for c in range(80)]
    found = assign(images, settings(distance=6))
    assert all(together(found, f"{c}/0.png", f"twin{c}.png") for c in range(300))
    assert all(found.splits[f"{c}/near"] == found.splits[f"{c}/like it"] == "train" for c in range(80))


def test_small_classes_are_left_out_of_every_split_where_that_is_said() -> None:
    images = [*tail(50, (2, 40)), image("test/1.png", label="only in test", split="test")]
    assert not assign(images, settings(min_class_images=3)).left_out
    found = assign(images, settings(min_class_images=3, small_classes="leave_out"))
    assert {one.label for one in found.left_out} == {f"c{c}" for c in range(0, 50, 2)} | {"only in test"}
    assert len(found.left_out) == 51 and found.left_out[0].stage == "small_class"
    assert found.left_out[0].reason == "its class has 2 images in train; data.min_class_images demands 3"
    assert len(found.splits) == 1000 and not found.splits.keys() & {one.path for one in found.left_out}
    assert not assign(tail(3), settings(min_class_images=9, small_classes="leave_out")).splits


def frames(number: int, step: int) -> list[ImageFacts]:
    """A camera that passes a scene, `step` pixels a frame."""
    scene = detailed(3, 4000, 400)
    cut = [scene.crop((step * i, 0, step * i + 500, 400)) for i in range(number)]
    return [ImageFacts(*image(f"{i:04}.png")[:6], *(describe(one) or ())) for i, one in enumerate(cut)]


def test_a_chain_of_near_duplicates_does_not_take_all_images_along() -> None:
    film = frames(300, 3)
    found = assign(film, settings(distance=6))
    (chain,) = (group for group in found.duplicates if group.kind == "chain")
    groups = [group for group in found.duplicates if group.kind == "near"]
    assert len(chain.paths) > 200 and not chain.leaks and not chain.contradicts
    assert max(len(group.paths) for group in groups) < 60
    assert all(len(set(group.splits)) == 1 for group in groups) and set(found.splits.values()) == set(WEIGHTS)
    assert found == assign(film[::-1], settings(distance=6))

    among = [*film, *(image(f"x{i}") for i in range(10_000))]
    kept = assign(among, settings(distance=6))
    assert len({kept.splits[path] for path in chain.paths}) == 1, "few among many share a split"


def test_whatever_is_tied_together_by_any_chain_shares_a_split() -> None:
    rings = []
    for i in range(60):  # a and b by pixels, b and c by group, c and d by likeness
        rings += [
            image(f"{i}/a", pixels=f"p{i}"),
            image(f"{i}/b", pixels=f"p{i}", group=f"g{i}"),
            image(f"{i}/c", group=f"g{i}", picture=i),
            image(f"{i}/d", picture=i),
        ]
    found = assign(rings, settings(distance=6))
    assert all(together(found, *(f"{i}/{name}" for name in "abcd")) for i in range(60))
    assert len(set(found.splits.values())) == 3
    assert [d.kind for d in found.duplicates if d.paths[0].startswith("7/")] == ["identical", "near"]


def test_near_duplicates_are_looked_for_only_if_asked() -> None:
    images = [image(f"{i}/{name}", picture=i) for i in range(60) for name in "ab"]
    found = assign(images, settings())
    assert not found.duplicates
    assert not all(together(found, f"{i}/a", f"{i}/b") for i in range(60))


def test_a_group_stays_where_it_is_as_images_join_it() -> None:
    images = [image(f"{i}.png", group=f"g{i % 40}") for i in range(400)]
    few, many = assign(images[:80], settings()), assign(images, settings())
    assert many.splits.items() >= few.splits.items()


def test_the_order_of_the_images_does_not_matter() -> None:
    images = [image(f"{i}.png", pixels=f"p{i // 2}", picture=i // 3) for i in range(90)]
    shuffled = random.Random(0).sample(images, len(images))
    assert assign(images, settings(distance=6)) == assign(shuffled, settings(distance=6))


def test_given_splits_are_kept_though_they_leak() -> None:
    images = [image(f"{split}/{i}", pixels=f"p{i}", split=split) for split in WEIGHTS for i in range(20)]
    found = assign(images, settings(distance=6))
    assert all(path.startswith(split) for path, split in found.splits.items())
    assert {tuple(sorted(d.splits)) for d in found.duplicates} == {("eval", "test", "train")}


def test_a_group_in_several_given_splits_is_told() -> None:
    images = [image(f"{split}/{i}", label="ab"[i % 2], split=split, group="p1") for split in WEIGHTS for i in range(2)]
    images += [image("train/x", split="train", group="p2"), image("train/y", split="train", group="p2")]
    images += [image("train/z", split="train"), image("test/z", split="test")]
    (found,) = assign(images, settings(distance=6)).duplicates
    assert (found.kind, found.paths) == ("group", sorted(f"{split}/{i}" for split in WEIGHTS for i in range(2)))
    assert found.splits == [path.split("/")[0] for path in found.paths]


def test_a_split_made_from_train_takes_nothing_that_is_in_a_given_one() -> None:
    images = [image(f"train/{i}", pixels=f"p{i}", split="train") for i in range(100)]
    images += [image(f"test/{i}", pixels=f"p{i}", split="test") for i in range(50)]
    found = assign(images, settings({"train": 1, "eval": 1, "test": 1}))
    assert all(found.splits[f"test/{i}"] == "test" for i in range(50))
    assert all(found.splits[f"train/{i}"] == "train" for i in range(50)), "tied to the given test split"
    made = [found.splits[f"train/{i}"] for i in range(50, 100)]
    assert set(made) == {"train", "eval"} and 10 < made.count("eval") < 40


@pytest.mark.parametrize("images", [[], [image("1.png")]])
def test_no_images_or_one_are_no_special_case(images: list[ImageFacts]) -> None:
    found = assign(images, settings(distance=6))
    assert len(found.splits) == len(images) and found.duplicates == []


def test_groups_of_classes_that_are_left_out_are_not_taken_to_train() -> None:
    common = [image(f"{i}.png", label=f"common{i % 10}", group=f"camera{i % 30}") for i in range(300)]
    rare = [image(f"r{i}.png", label=f"rare{i}", group=f"camera{i % 30}") for i in range(40)]
    assert set(assign([*common, *rare], settings()).splits.values()) == {"train"}, "every camera has a rare class"
    found = assign([*common, *rare], settings(min_class_images=10, small_classes="leave_out"))
    assert found.splits == assign(common, settings(min_class_images=10)).splits
    assert set(found.splits.values()) == set(WEIGHTS) and len(found.left_out) == 40
