"""Which folders are the spans of a window, and their union as one data set."""

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from components.ingestion.image_folder import read_file
from components.ingestion.spans import resolve
from core.artifacts.ingest_record import Span
from core.errors import InputError
from core.uris import split_pattern
from tests.components.ingestion.listings import read_spans


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., str]:
    def make(*names: str) -> str:
        for name in names:
            (tmp_path / name).mkdir(parents=True)
        return str(tmp_path)

    return make


def numbers(found: list[Span]) -> list[int]:
    return [span.span for span in found]


@pytest.mark.parametrize(
    ("images", "split"),
    [
        ("photos", ("photos", "")),
        ("/data/photos/", ("/data/photos", "")),
        ("photos/day-{SPAN}", ("photos", "day-{SPAN}")),
        ("gs://bucket/{SPAN:4}/v{VERSION}/images/", ("gs://bucket", "{SPAN:4}/v{VERSION}/images")),
        ("photos/{YYYY}/{MM}-{DD}", ("photos", "{YYYY}/{MM}-{DD}")),
    ],
)
def test_the_pattern_begins_with_the_first_spec(images: str, split: tuple[str, str]) -> None:
    assert split_pattern(images) == split


@pytest.mark.parametrize(
    "images",
    ["p/{SPAN}/{SPAN}", "p/{VERSION}", "p/{YYYY}-{MM}", "p/{SPAN}-{DD}", "p/{SPIN}", "p/{SPAN:x}", "p/{SPAN}/*"],
)
def test_specs_that_tfx_would_refuse_are_refused(images: str) -> None:
    with pytest.raises(ValueError, match="is not a pattern of spans"):
        split_pattern(images)


def test_the_window_is_the_last_spans_that_there_are(folders: Callable[..., str]) -> None:
    base = folders("day-1", "day-2", "day-9", "day-10", "day-11-copying", "night-12")
    assert numbers(resolve(base, "day-{SPAN}", None, 1)) == [10]
    assert numbers(resolve(base, "day-{SPAN}", None, 3)) == [2, 9, 10]
    assert numbers(resolve(base, "day-{SPAN}", 9, 2)) == [2, 9]
    assert numbers(resolve(base, "day-{SPAN}", None, 100)) == [1, 2, 9, 10]


def test_of_each_span_the_latest_version_is_read(folders: Callable[..., str]) -> None:
    base = folders("1/v1", "1/v9", "1/v10", "2/v1", "3")
    found = resolve(base, "{SPAN}/v{VERSION}", None, 5)
    assert found == [Span(1, 10, "1/v10"), Span(2, 1, "2/v1")]


def test_a_date_is_a_span_as_in_tfx(folders: Callable[..., str]) -> None:
    base = folders("2026-02-28", "2026-03-01", "2026-02-31")
    found = resolve(base, "{YYYY}-{MM}-{DD}", None, 5)
    first = (datetime.date(2026, 2, 28) - datetime.date(1970, 1, 1)).days
    assert numbers(found) == [first, first + 1]


def test_a_width_is_a_number_of_digits(folders: Callable[..., str]) -> None:
    assert numbers(resolve(folders("s007", "s8"), "s{SPAN:3}", None, 5)) == [7]


def test_a_span_that_is_not_there_is_told_in_the_users_words(folders: Callable[..., str]) -> None:
    base = folders("day-3", "day-5")
    with pytest.raises(InputError, match=r"data\.span: there is no span 4 in .*; there are 3 to 5"):
        resolve(base, "day-{SPAN}", 4, 1)
    with pytest.raises(InputError, match=r"data\.images: no folder in .* fits week-\{SPAN\}"):
        resolve(base, "week-{SPAN}", None, 1)


def test_a_span_that_is_a_link_to_nowhere_is_not_lost(folders: Callable[..., str]) -> None:
    base = folders("day-1", "day-2")
    Path(base, "day-3").symlink_to("/nowhere/day-3")
    with pytest.raises(InputError, match="are links that lead nowhere: day-3"):
        resolve(base, "day-{SPAN}", None, 2)
    assert numbers(resolve(base, "day-{SPAN}", 2, 2)) == [1, 2]


def test_spans_are_read_as_one_data_set(image_folder: Callable[..., Path]) -> None:
    base = image_folder("day-1", cat=1, dog=1).parent
    image_folder("day-2", cat=1, bird=1)
    (base / "day-1" / "metadata.csv").write_text("file_name,camera\ncat/0000.png,phone\n")
    (base / "day-2" / "metadata.csv").write_text("file_name,place\ncat/0000.png,zoo\n")
    listing = read_spans(str(base), ["day-1", "day-2"], metadata="metadata.csv")
    metadata = listing.metadata
    assert [(file.path, file.label) for file in listing.files] == [
        ("day-1/cat/0000.png", "cat"),
        ("day-1/dog/0000.png", "dog"),
        ("day-2/bird/0000.png", "bird"),
        ("day-2/cat/0000.png", "cat"),
    ]
    assert listing.remarks == (
        "day-1: metadata.csv (commas, UTF-8): file names in file_name; slices: camera",
        "day-2: metadata.csv (commas, UTF-8): file names in file_name; slices: place",
    )
    assert metadata.values("day-1/cat/0000.png") == {"camera": "phone", "place": ""}
    assert metadata.values("day-2/cat/0000.png") == {"camera": "", "place": "zoo"}


def test_a_span_may_bring_images_of_one_class_only(image_folder: Callable[..., Path]) -> None:
    base = image_folder("1", cat=1, dog=1).parent
    image_folder("2", cat=2)
    assert len(read_spans(str(base), ["1", "2"]).files) == 4
    with pytest.raises(InputError, match=r"2 in .* hold images of one class only"):
        read_spans(str(base), ["2"])


def test_the_fingerprint_sees_an_edit_within_a_second_and_of_the_same_size(image_folder: Callable[..., Path]) -> None:
    folder = image_folder("images", cat=1, dog=1)
    file = folder / "cat" / "0000.png"
    at = 1_700_000_000_000_000_000
    os.utime(file, ns=(at, at))
    before = read_spans(str(folder), [""]).fingerprint()
    assert read_spans(str(folder), [""]).fingerprint() == before
    os.utime(file, ns=(at, at + 1000))
    assert read_spans(str(folder), [""]).fingerprint() != before


def test_spans_of_different_layouts_are_no_data_set(image_folder: Callable[..., Path]) -> None:
    base = image_folder("1", cat=1, dog=1).parent
    image_folder("2/train", cat=1, dog=1)
    with pytest.raises(InputError, match=r"1, 2 in .* are not laid out alike: they differ in their layout"):
        read_spans(str(base), ["1", "2"])


def test_spans_that_are_links_out_of_the_folder_need_the_setting(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = image_folder("days/1", cat=1, dog=1).parent
    elsewhere = image_folder("elsewhere/2", cat=1, dog=1)
    (base / "2").symlink_to(elsewhere)
    (base / "3").symlink_to("1")
    with pytest.raises(InputError, match=rf"links out of it: 2 -> {elsewhere}\. Set data\.links to follow"):
        read_spans(str(base), ["1", "2"])
    listing = read_spans(str(base), ["1", "2", "3"], links="follow")
    assert listing.folder.roots == (str(elsewhere),)
    assert all(read_file(listing.folder, file.path) for file in listing.files)


def test_a_pattern_that_fits_no_span_of_the_window_is_named(image_folder: Callable[..., Path]) -> None:
    base = image_folder("1", cat=1, dog=1).parent
    image_folder("2", cat=1, dog=1)
    (base / "2" / "cat" / "x.bak").touch()
    listing = read_spans(str(base), ["1", "2"], ignore=["*.bak", "*.old"])
    assert listing.notes(["*.bak", "*.old"]) == [
        "ignored: 1 data.ignore: *.bak (2/cat/x.bak)",
        "data.ignore: *.old fits nothing",
    ]


@pytest.mark.parametrize("name", ["a [v2] b", "a*b?", "{x}"])
def test_a_folder_whose_name_looks_like_a_pattern(image_folder: Callable[..., Path], name: str) -> None:
    base = image_folder(f"{name}/day-1", cat=1, dog=1).parent
    (span,) = resolve(str(base), "day-{SPAN}", None, 1)
    assert len(read_spans(str(base), [span.folder]).files) == 2


def test_the_fingerprint_sees_which_spans_are_read(image_folder: Callable[..., Path]) -> None:
    base = image_folder("1", cat=1, dog=1).parent
    image_folder("2", cat=1, dog=1)
    prints = {read_spans(str(base), chosen).fingerprint() for chosen in (["1"], ["2"], ["1", "2"])}
    assert len(prints) == 3


def test_a_span_may_bring_images_of_some_splits_only(image_folder: Callable[..., Path]) -> None:
    base = image_folder("1/train", cat=1, dog=1).parent.parent
    image_folder("2/test", cat=1, dog=1)
    assert read_spans(str(base), ["1", "2"]).given == ("train", "test")
    with pytest.raises(InputError, match=r"2 in .* give splits, and no train"):
        read_spans(str(base), ["2"])
    image_folder("3", cat=1, dog=1)
    with pytest.raises(InputError, match=r"not laid out alike: they differ in their layout"):
        read_spans(str(base), ["1", "3"])
