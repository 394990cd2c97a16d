"""s3:// through Beam's own file system for it, against an S3 in this process; gs:// goes the same way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.ingestion.image_folder import read_file, walk
from components.ingestion.image_layout import read_layout
from components.ingestion.image_records import read_records
from tests.components.conftest import encoded, picture
from tests.components.ingestion.test_image_records import example, write
from trainer.errors import InputError


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    boto3 = pytest.importorskip("boto3", reason="the extra aws is not installed")
    moto = pytest.importorskip("moto", reason="the dev group is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket="photos")
        yield "photos"


def put(bucket: str, **files: bytes) -> None:
    import boto3

    for key, body in files.items():
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def test_a_folder_is_listed_and_read(bucket: str) -> None:
    image = encoded(picture(1))
    put(bucket, **{"set/cat/1.png": image, "set/dog/größe 2.png": image, "set/.hidden/x.png": b"", "set/dog/": b""})
    put(
        bucket, **{"settle/no.png": b"", "set/dog/Thumbs.db": b"", "set/notes.txt": b"x", "set/cat/a.gz": b"not packed"}
    )
    tree = walk("s3://photos/set")
    assert [file.path for file in tree.files] == ["cat/1.png", "cat/a.gz", "dog/größe 2.png", "notes.txt"]
    assert (tree.folders, tree.ignored) == (["cat", "dog"], 2)
    assert read_file("s3://photos/set", "dog/größe 2.png") == image
    assert read_file("s3://photos/set", "cat/a.gz") == b"not packed"
    listing = read_layout("s3://photos/set/")
    assert (listing.layout, listing.classes()) == ("class_folders", ["cat", "dog"])
    before = listing.fingerprint()
    put(bucket, **{"set/cat/1.png": image + b" "})
    assert read_layout("s3://photos/set/").fingerprint() != before


def test_metadata_and_records_are_read(bucket: str, tmp_path: Path) -> None:
    put(bucket, **{"m/1.png": b"", "m/2.png": b"", "m/metadata.csv": b"file_name,label\n1.png,a\n2.png,b\n"})
    assert read_layout("s3://photos/m").classes() == ["a", "b"]
    records = write(tmp_path / "x.tfrecord", example(image=b"1", label=b"cat")).read_bytes()
    put(bucket, **{"r/x.tfrecord": records})
    listing = read_layout("s3://photos/r")
    assert [record.label for record in read_records("s3://photos/r", "x.tfrecord", listing.names)] == ["cat"]


@pytest.mark.parametrize("url", ["s3://photos/nothing", "s3://no-such-bucket/x"])
def test_a_folder_that_is_not_there_is_told(bucket: str, url: str) -> None:
    with pytest.raises(InputError, match=r"The data folder s3://.* (does not exist, or is empty|cannot be listed)"):
        walk(url)


def test_a_scheme_that_nobody_reads_is_told() -> None:
    with pytest.raises(InputError, match="The data folder nfs://x cannot be listed"):
        walk("nfs://x")
