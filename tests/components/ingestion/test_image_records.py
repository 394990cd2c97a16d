import contextlib
import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import google_crc32c
import pytest
import tensorflow as tf

from components.ingestion.image_records import Names, Record, is_record_file, read_records, split_of
from core.errors import InputError
from core.image_limits import ImageLimits
from tests.components.ingestion.listings import read_layout

NAMED = Names(labels=((0, "bird"), (1, "dog")))


def example(**values: bytes | int) -> bytes:
    features = {
        name.replace("__", "/"): tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        if isinstance(value, int)
        else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/a.tfrecord", "train"),
        ("Val/deep/a.tfrecord", "eval"),
        ("flowers-train.tfrecord-00000-of-00004", "train"),
        ("my-test-flowers-val.tfrecord", "eval"),
        ("a.tfrecords", ""),
        ("birds_train_00000-of-00001.tfrecord", "train"),
        ("validation-00000-of-00002", "eval"),
        ("train.record", "train"),
        ("birds_val.record-00000-of-00010", "eval"),
        ("00-192x192-798.tfrec", ""),
        ("trainings.tfrecord", ""),
    ],
)
def test_a_split_is_read_off_the_folder_or_the_name(path: str, split: str) -> None:
    assert split_of(path) == split
    assert is_record_file(path)
    assert not is_record_file("owl.recording.jpg") and not is_record_file("owl.record.png")


def test_labels_are_text_or_numbers_with_names(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", example(image__encoded=b"1", label=b"cat"), example(image=b"2", label=1))
    records = list(read_records(str(tmp_path), "a.tfrecord", NAMED))
    assert records == [("a.tfrecord#0", "cat", b"1", ""), ("a.tfrecord#1", "dog", b"2", "")]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (b"\xff\xff no example", "the record is not a tf.Example"),
        (example(label=b"cat"), "its tf.Example has no image in image/encoded or image"),
        (example(image=3, label=b"cat"), "its tf.Example has no image in image/encoded or image"),
        (example(image=b"1", y=1), "its tf.Example has no label in label or image/class/text or"),
        (example(image=b"1", label=b"a\nb"), "its label 'a\\nb' cannot name a class"),
        (example(image=b"1", label=-1), "its label is the number -1, which has no name"),
    ],
    ids=["garbage", "no image", "a number for an image", "no label", "two lines", "negative"],
)
def test_a_record_that_cannot_be_used_is_told_with_its_place(tmp_path: Path, record: bytes, problem: str) -> None:
    write(tmp_path / "a.tfrecord", example(image=b"1", label=b"cat"), record, example(image=b"3", label=b"dog"))
    good, bad, after = read_records(str(tmp_path), "a.tfrecord", NAMED)
    assert (good.problem, after.label, after.path) == ("", "dog", "a.tfrecord#2")
    assert bad.path == "a.tfrecord#1" and bad.problem.startswith(problem) and bad.label == ""


def test_a_damaged_file_gives_what_is_before_the_damage_and_one_reject(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", *(example(image=b"x" * 100, label=b"cat") for _ in range(5)))
    path.write_bytes(path.read_bytes()[:-20])
    *good, bad = read_records(str(tmp_path), "a.tfrecord", Names())
    assert [record.path for record in good] == [f"a.tfrecord#{i}" for i in range(4)]
    assert bad.path == "a.tfrecord#4" and bad.problem.startswith("the TFRecord file is damaged from here on")
    (tmp_path / "noise.tfrecord").write_bytes(b"no records here, only text")
    (only,) = read_records(str(tmp_path), "noise.tfrecord", Names())
    assert only.problem.startswith("the TFRecord file is damaged")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("length", [2**41, 2**63, 1000])
def test_a_record_that_claims_more_than_there_is_never_reaches_tensorflow(
    tmp_path: Path, length: int, packed: bool
) -> None:
    """With a right checksum of its length TensorFlow ends the process."""
    whole = write(tmp_path / "a.tfrecord", example(image=b"1", label=b"cat")).read_bytes()
    claim = struct.pack("<Q", length)
    crc = google_crc32c.value(claim)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # TFRecord's
    data = whole + claim + struct.pack("<I", masked) + b"few"
    name = "b.tfrecord.gz" if packed else "b.tfrecord"
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)

    good, bad = read_records(str(tmp_path), name, Names())

    assert (good.label, bad.path) == ("cat", f"{name}#1")
    assert bad.problem.startswith("the TFRecord file is damaged from here on: ")


def test_a_damaged_packed_file_is_one_reject(tmp_path: Path) -> None:
    packed = gzip.compress(write(tmp_path / "a.tfrecord", example(image=b"1", label=b"cat")).read_bytes())
    for data in (packed[:-12], b"not packed", packed[:20] + b"\xff" * 20):
        (tmp_path / "b.tfrecord.gz").write_bytes(data)
        *_, bad = read_records(str(tmp_path), "b.tfrecord.gz", Names())
        assert bad.problem.startswith("the TFRecord file is damaged from here on: "), bad


def write_packed(path: Path, *records: bytes) -> None:
    plain = write(path.with_suffix(".plain"), *records)
    path.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=9))
    plain.unlink()


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_a_record_larger_than_an_image_may_be_is_passed_over_and_never_in_memory(tmp_path: Path, name: str) -> None:
    large, small = example(image=bytes(50 * 2**20), label=b"cat"), example(image=b"1", label=b"dog")
    (write if name.endswith("d") else write_packed)(tmp_path / name, small, large, small)
    tracemalloc.start()
    first, passed, last = read_records(str(tmp_path), name, Names(), ImageLimits(max_file_mb=1))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first.label, last.label, last.path) == ("dog", "dog", f"{name}#2")
    assert passed.problem == f"its tf.Example has {len(large):,} bytes, more than an image may (max_file_mb)"
    assert most < 8 * 2**20


@pytest.mark.parametrize(
    "kind",
    [
        {"bytes_list": tf.train.BytesList(value=[b""] * 200_000)},
        {"int64_list": tf.train.Int64List(value=[0] * 10_000_000)},
    ],
    ids=["texts", "integers"],
)
def test_an_example_of_more_values_than_an_image_needs_is_refused_before_they_are_made(
    tmp_path: Path, kind: dict[str, object]
) -> None:
    many = tf.train.Example(features=tf.train.Features(feature={"a": tf.train.Feature(**kind)})).SerializeToString()
    mask = (
        example(image=b"1", label=b"dog")
        + tf.train.Example(
            features=tf.train.Features(feature={"mask": tf.train.Feature(int64_list={"value": [1] * 512 * 512})})
        ).SerializeToString()
    )  # messages one behind the other are merged
    write_packed(tmp_path / "a.tfrecord.gz", many, mask)
    refused, good = read_records(str(tmp_path), "a.tfrecord.gz", Names())
    assert refused.problem == "its tf.Example has more than 131,072 values"
    assert (good.label, good.problem) == ("dog", "")


def test_a_packed_file_of_empty_records_is_not_read_to_its_end(tmp_path: Path) -> None:
    good = example(image=b"1", label=b"dog")
    write_packed(tmp_path / "a.tfrecord.gz", good, *[b""] * 15_000, good)
    records = list(read_records(str(tmp_path), "a.tfrecord.gz", Names()))
    assert len(records) == 10_002 and records[0].label == "dog"
    assert records[-1].problem == "10,000 records in a row cannot be used: the rest of the file is not read"


def test_records_are_opened_as_image_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    outside = write(tmp_path / "outside.tfrecord", example(image=b"1", label=b"cat"))
    within = write(folder / "a.tfrecord", example(image=b"1", label=b"cat"))
    (folder / "link.tfrecord").symlink_to(within)
    (folder / "out.tfrecord").symlink_to(outside)
    (folder / "broken.tfrecord").symlink_to("nowhere")
    (folder / "empty.tfrecord").touch()
    os.mkfifo(folder / "pipe.tfrecord")

    def only(name: str) -> Record:
        (record,) = read_records(str(folder), name, Names())
        return record

    assert only("link.tfrecord").label == "cat"
    assert only("out.tfrecord") == ("out.tfrecord", "", b"", f"it is a link out of the data folder, to {outside}")
    assert only("broken.tfrecord").problem == "it cannot be opened: No such file or directory"
    assert only("pipe.tfrecord").problem == "it is not a regular file"
    assert only("empty.tfrecord") == ("empty.tfrecord", "", b"", "the TFRecord file has no record")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "labels.txt", "dataset_info.json"])
def test_what_describes_the_data_is_opened_as_image_files_are(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    write(folder / ("a.png" if name.startswith("metadata") else "a.tfrecord"), example(image=b"1", label=b"cat"))
    (tmp_path / "outside").write_text("x")
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name} cannot be read: it is not a regular file"):
        read_layout(str(folder))
    (folder / name).unlink()
    (folder / name).symlink_to("../outside")
    with pytest.raises(InputError, match=f"{name} cannot be read: it is a link out of the data folder"):
        read_layout(str(folder))


def test_tfrecord_files_give_splits_and_classes(tmp_path: Path) -> None:
    for name, label in (("one-train.tfrecord", b"cat"), ("two-train.tfrecord", b"dog"), ("x-test.tfrecord", b"cat")):
        write(tmp_path / name, example(image=b"1", label=label))
    (tmp_path / "README.md").touch()
    (tmp_path / "photo.jpg").touch()
    listing = read_layout(str(tmp_path))
    assert (listing.layout, listing.given, listing.classes()) == ("tfrecords", ("train", "test"), ["cat", "dog"])
    assert [(file.path, file.problem) for file in listing.files if file.problem] == [
        ("photo.jpg", "it is not a TFRecord file")
    ]
    assert listing.describe() == "TFRecords: train 2, test 1 TFRecord files; eval made from train, by hashing"


def test_packed_records_and_a_list_of_names(tmp_path: Path) -> None:
    packed = gzip.compress(write(tmp_path / "a.tfrecord", example(image=b"1", label=1)).read_bytes())
    (tmp_path / "a.tfrecord").unlink()
    (tmp_path / "b.tfrecord.gz").write_bytes(packed)
    (tmp_path / "labels.txt").write_text("bird\ndog\n")
    listing = read_layout(str(tmp_path))
    assert (listing.classes(), len(listing.ignored), listing.described_by) == (["bird", "dog"], 1, ("labels.txt",))
    assert [record.label for record in read_records(str(tmp_path), "b.tfrecord.gz", listing.names)] == ["dog"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a-train.tfrecord": b"", "b.tfrecord": b""}, r"name a split and others do not \(b.tfrecord\)"),
        ({"a-test.tfrecord": b""}, "give the splits test, and no train"),
        ({"a.tfrecord": b"", "labels.txt": b"x\nx\n"}, "must hold a name a line, or a number and a name"),
        ({"a.tfrecord": b"", "dataset_info.json": b"{}"}, "names no image and label"),
        ({"a.tfrecord": b"", "dataset_info.json": b"[1"}, "dataset_info.json names no image and label"),
        ({"a.tfrecord": b"", "dataset_info.json": b"[" * 100_000}, "dataset_info.json names no image and label"),
        ({"a.tfrecord": b"", "labels.txt": b"\xff"}, r"labels.txt is not UTF-8 text \(byte 0\)"),
        ({"a.tfrecord": b"", "dataset_info.json": b"\xff"}, r"dataset_info.json is not UTF-8 text \(byte 0\)"),
        ({"a.tfrecord": b"", "dataset_info.json": b"[]"}, "dataset_info.json names no image and label"),
        ({"a.tfrecord": b"", "dataset_info.json": b"[" + b"9" * 5000 + b"]"}, "dataset_info.json names no image"),
        ({"a.tfrecord": b"", "dataset_info.json": b" " * (2**24 + 1)}, "has more than 16,777,216 bytes"),
        ({"a.tfrecord": b"", "labels.txt": b"x\n" * 2**23 + b"y"}, "has more than 16,777,216 bytes"),
        ({"a.tfrecord": b"", "labels.txt": b"9" * 5000 + b" owl\n"}, ""),
        ({"a.tfrecord": b"", "label_map.pbtxt": b"item {" * 100_000}, "must hold a name a line"),
        ({"a.tfrecord": b"", "label_map.pbtxt": b"item { id: " + b"9" * 5000 + b" name: 'x' }"}, "must hold a name"),
    ],
)
def test_records_that_say_too_little_are_told(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) if words else contextlib.nullcontext():
        read_layout(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("bird\ndog\n", ((0, "bird"), (1, "dog"))),
        ("\ufeffbird\r\ndog \r\n\r\n\n", ((0, "bird"), (1, "dog"))),
        ("1:bird\n2: dog\n", ((1, "bird"), (2, "dog"))),
        ("7\tdog\n3\tbird\n", ((3, "bird"), (7, "dog"))),
        ("0 bird\n1 dog\n", ((0, "bird"), (1, "dog"))),
    ],
)
def test_labels_txt_names_integer_labels(tmp_path: Path, text: str, labels: tuple[tuple[int, str], ...]) -> None:
    write(tmp_path / "a.tfrec", example(image=b"1", target=labels[0][0]))
    (tmp_path / "labels.txt").write_bytes(text.encode())
    listing = read_layout(str(tmp_path))
    assert (listing.names.labels, listing.classes()) == (labels, ["bird", "dog"])
    assert listing.remarks == ("the image is in image and the label in target, named by labels.txt",)


def test_a_label_map_names_integer_labels(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001", example(image__encoded=b"1", image__class__label=1))
    items = ("id: 1\n  name: 'bird'", "name: 'dog' display_name: \"Hund\" id: 2")
    (tmp_path / "label_map.pbtxt").write_text("".join(f"item {{\n  {item}\n}}\n" for item in items))
    listing = read_layout(str(tmp_path))
    assert (listing.names.labels, listing.given) == (((1, "bird"), (2, "dog")), ("train",))


def test_the_text_of_a_label_is_preferred_to_inceptions_number(tmp_path: Path) -> None:
    """Its numbers begin at 1, and its list of names at the first of them."""
    record = example(image__encoded=b"1", image__class__label=1, image__class__text=b"bird")
    write(tmp_path / "a.tfrecord", record)
    (tmp_path / "labels.txt").write_text("bird\ndog\n")
    listing = read_layout(str(tmp_path))
    assert [record.label for record in read_records(str(tmp_path), "a.tfrecord", listing.names)] == ["bird"]


@pytest.mark.parametrize(
    ("record", "told", "words"),
    [
        (
            example(image=b"1", y=3, note=b"x"),
            {},
            r"has no label \(label, .*\); it has image \(bytes\), note \(bytes\), y \(integer\)\. Name the key in",
        ),
        (
            example(jpg=b"1", label=b"a"),
            {},
            r"has no image .*it has jpg \(bytes\), label \(bytes\)\. .*columns\.file_name",
        ),
        (
            example(image=b"1", label=b"a", target=b"b"),
            {},
            r"label, target could each be the label .* data\.columns\.label",
        ),
        (example(image=b"1", label=3), {}, "label of a tf.Example is a number, and nothing says what it is called"),
        (example(jpg=b"1", y=b"a"), {"label": "z", "file_name": "jpg"}, r"has no label \(z\)"),
        (example(jpg=b"1", y=b"a"), {"label": "y", "file_name": "jpg"}, ""),
        (example(image=b"1", label=b"a", target=b"b"), {"label": "target"}, ""),
    ],
    ids=[
        "no label",
        "no image",
        "two labels",
        "a nameless number",
        "a named key that is not there",
        "named keys",
        "one named",
    ],
)
def test_keys_that_are_not_known_are_told_and_may_be_named(
    tmp_path: Path, record: bytes, told: dict[str, str | None], words: str
) -> None:
    write(tmp_path / "a.tfrecord", record)
    if not words:
        assert read_layout(str(tmp_path), columns=told).names.label == (told["label"],)
        return
    with pytest.raises(InputError, match=words):
        read_layout(str(tmp_path), columns=told)


def test_a_number_beyond_the_names_stops_as_all_may_be_one_off(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", *(example(image=b"1", label=number) for number in (1, 2)))
    with pytest.raises(InputError, match=r"a\.tfrecord#1: .* number 2; the names are of 0 to 1, and may be one off"):
        list(read_records(str(tmp_path), "a.tfrecord", NAMED))
    explicit = Names(labels=((1, "bird"), (7, "dog")))
    assert [record.problem for record in read_records(str(tmp_path), "a.tfrecord", explicit)] == [
        "",
        "its label is the number 2, which has no name",
    ]


def test_a_record_file_beside_images_makes_no_layout_of_records(tmp_path: Path) -> None:
    for path in ("owl/1.png", "wren/2.png", "owl/x.tfrecord"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert read_layout(str(tmp_path)).layout == "class_folders"


def test_test_images_of_a_competition_are_told_with_a_way_that_works(tmp_path: Path) -> None:
    write(tmp_path / "test/00-192x192.tfrec", example(image=b"1", id=b"a7"))
    write(tmp_path / "train/00-192x192.tfrec", *(example(image=b"1", label=label) for label in (b"rose", b"tulip")))
    with pytest.raises(InputError, match=r'if it is of images without labels.*set data\.ignore to \["/test/"\]'):
        read_layout(str(tmp_path))
    assert read_layout(str(tmp_path), ignore=["/test/"]).classes() == ["rose", "tulip"]


def test_a_label_that_is_neither_a_text_nor_a_number_is_told(tmp_path: Path) -> None:
    features = tf.train.Features(
        feature={
            "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"])),
            "label": tf.train.Feature(float_list=tf.train.FloatList(value=[0, 1])),
        }
    )
    write(tmp_path / "a.tfrecord", tf.train.Example(features=features).SerializeToString())
    with pytest.raises(InputError, match=r"label of a tf\.Example is not one .*label \(float\)\. Name another key in"):
        read_layout(str(tmp_path))
