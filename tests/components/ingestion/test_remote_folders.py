"""Data folders on s3:// and gs://."""

from pathlib import Path

import pytest

from components.ingestion.earlier_reads import EarlierReads
from components.ingestion.image_folder import read_file, walk
from components.ingestion.image_ingestion import ReadImages
from components.ingestion.image_reading import RejectedError
from components.ingestion.image_records import read_records
from components.ingestion.spans import resolve
from core import examples, tfrecords
from core.errors import InputError
from core.image_limits import ImageLimits
from core.settings.data import DataSettings
from tests.components.conftest import encoded, picture
from tests.components.ingestion.listings import read_layout, read_spans
from tests.components.ingestion.test_image_records import example, write
from tests.stores import Store


def test_a_folder_is_listed_and_read(store: Store) -> None:
    url, put = store
    image = encoded(picture(1))
    put({"set/cat/1.png": image, "set/dog/größe 2.png": image, "set/.hidden/x.png": b"", "set/dog/": b""})
    put({"settle/no.png": b"", "set/dog/Thumbs.db": b"", "set/notes.txt": b"x", "set/cat/a.gz": b"not packed"})
    tree = walk(f"{url}/set")
    assert [file.path for file in tree.files] == ["cat/1.png", "cat/a.gz", "dog/größe 2.png", "notes.txt"]
    assert (tree.folders, [one.path for one in tree.ignored]) == (["cat", "dog"], [".hidden/", "dog/Thumbs.db"])
    assert read_file(f"{url}/set", "dog/größe 2.png") == image
    assert read_file(f"{url}/set", "cat/a.gz") == b"not packed"
    listing = read_layout(f"{url}/set/")
    assert (listing.layout, listing.classes()) == ("class_folders", ["cat", "dog"])
    before = listing.fingerprint()
    put({"set/cat/1.png": image + b" "})
    assert read_layout(f"{url}/set/").fingerprint() != before


def test_images_are_ingested_and_what_is_none_is_a_reject(store: Store, tmp_path: Path) -> None:
    url, put = store
    put(
        {
            "set/cat/1.png": encoded(picture(1)),
            "set/dog/2.webp": encoded(picture(2), "WEBP"),
            "set/dog/3.jpg": b"no",
            "set/dog/4": b"no",
        }
    )
    listing = read_layout(f"{url}/set")
    reader = ReadImages(listing, DataSettings(url).ingestion({}), EarlierReads(), str(tmp_path))
    reader.setup()

    tagged = list(reader.process(("0", [(file, {}, None) for file in listing.files])))

    assert [(output.tag, output.value[0]) for output in tagged if output.tag == "facts"] == [
        ("facts", "cat/1.png"),
        ("facts", "dog/2.webp"),
    ]
    assert [output.value.path for output in tagged if output.tag == "rejected"] == ["dog/3.jpg"]
    assert [output.value.path for output in tagged if output.tag == "ignored"] == ["dog/4"]
    paths = [tfrecords.values(record)[examples.PATH] for record in tfrecords.read(f"{tmp_path}/images/0")]
    assert paths == [b"cat/1.png", b"dog/2.webp"]


def test_no_more_is_read_of_a_file_than_the_limit_needs(store: Store) -> None:
    url, put = store
    put({"set/cat/1.png": bytes(100_000)})
    limits = ImageLimits(max_file_mb=0.01)
    assert len(read_file(f"{url}/set", "cat/1.png", limits)) == limits.file_bytes + 1


def test_that_a_store_does_not_answer_is_no_reason_to_reject_a_picture(
    gs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gs.put({"set/cat/1.png": b"x"})
    with pytest.raises(Exception) as error:
        read_file("gs://photos/set", "cat/absent.png")
    assert not isinstance(error.value, RejectedError)


def test_metadata_and_records_are_read(store: Store, tmp_path: Path) -> None:
    url, put = store
    put({"m/1.png": b"", "m/2.png": b"", "m/metadata.csv": b"file_name,label\n1.png,a\n2.png,b\n"})
    assert read_layout(f"{url}/m").classes() == ["a", "b"]
    put({"r/x.tfrecord": write(tmp_path / "x.tfrecord", example(image=b"1", label=b"cat")).read_bytes()})
    listing = read_layout(f"{url}/r")
    assert [record.label for record in read_records(f"{url}/r", "x.tfrecord", listing.names)] == ["cat"]


def test_a_folder_that_is_not_there_is_told(store: Store) -> None:
    url, _ = store
    with pytest.raises(InputError, match=f"The data folder {url}/nothing does not exist, or is empty"):
        walk(f"{url}/nothing")


def test_what_a_store_says_is_told_without_what_beam_puts_around_it(gs: Store) -> None:
    with pytest.raises(InputError) as error:
        walk("gs://no-such-bucket/x")
    words = str(error.value)
    assert words.startswith("The data folder gs://no-such-bucket/x cannot be listed: ")
    assert "BeamIOError" not in words and "Match operation" not in words
    assert words.endswith("gs:// needs Google's application default credentials.")


def test_a_scheme_that_nobody_reads_is_told() -> None:
    with pytest.raises(InputError, match=r"The data folder nfs://x cannot be listed: .*nfs") as error:
        walk("nfs://x")
    assert "needs" not in str(error.value)


def test_what_systems_leave_and_what_is_no_picture_is_ignored(store: Store) -> None:
    url, put = store
    image = encoded(picture(1))
    put({f"n/{split}/{label}/1.png": image for split in ("train", "val") for label in "ab"})
    left = ["@eaDir/x/1.png", "train/a/@eaDir/1.png/THUMB.jpg", "lost+found/7", "val/b/Thumbs.db", "train/a/1.json"]
    put({f"n/{path}": b"x" for path in [*left, "README", "old/a/1.png", "train/a/deep/2.png"]})
    listing = read_layout(f"{url}/n", ignore=["/old/", "deep"])
    assert [file.path for file in listing.files] == ["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png"]
    assert {one.path: one.reason for one in listing.ignored} == {
        "@eaDir/": "left behind by a system",
        "README": "no picture: a read-me or license file",
        "lost+found/": "left behind by a system",
        "old/": "data.ignore: /old/",
        "train/a/1.json": "beside a picture of its name: .json",
        "train/a/@eaDir/": "left behind by a system",
        "train/a/deep/": "data.ignore: deep",
        "val/b/Thumbs.db": "left behind by a system",
    }


def test_spans_are_found_in_folders_that_look_like_patterns(store: Store) -> None:
    url, put = store
    put({f"[v2]/day-{day}/{label}/1.png": b"x" for day in (1, 12) for label in "ab"} | {"[v2]/day-x/a/1.png": b"x"})
    spans = resolve(f"{url}/[v2]", "day-{SPAN}", None, 2)
    assert [span.folder for span in spans] == ["day-1", "day-12"]
    assert len(read_spans(f"{url}/[v2]", [span.folder for span in spans]).files) == 4
