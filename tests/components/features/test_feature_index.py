"""Finding the features of one image in files of many."""

from pathlib import Path

import pytest
import tensorflow as tf

from components.features.feature_index import FeatureIndex


def write(path: Path, values: dict[bytes, list[bytes]]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for sha256, features in values.items():
            example = tf.train.Example()
            example.features.feature["features"].bytes_list.value.extend(features)
            example.features.feature["image/sha256"].bytes_list.value.append(sha256)
            writer.write(example.SerializeToString())
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    first = {f"{i:064x}".encode(): [bytes([i]) * 1000] for i in range(50)}
    second = {f"{i:064x}".encode(): [b"later", b"view"] for i in range(40, 60)}
    return [write(tmp_path / "a", first), write(tmp_path / "b", second)]


def test_every_image_is_found_in_the_first_file_that_has_it(files: list[str]) -> None:
    index = FeatureIndex(files)
    assert len(index) == 60
    assert all(index.read(f"{i:064x}".encode()) == [bytes([i]) * 1000] for i in range(50))
    assert index.read(f"{55:064x}".encode()) == [b"later", b"view"]
    assert index.read(f"{60:064x}".encode()) is None


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    index = FeatureIndex([write(tmp_path / "empty", {})])
    assert len(index) == 0
    assert index.read(b"0") is None


def test_of_a_damaged_file_what_can_be_read_is_found(files: list[str]) -> None:
    path = Path(files[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    index = FeatureIndex(files)
    assert 20 + 20 < len(index) < 50
    assert index.read(f"{0:064x}".encode()) == [bytes(1000)]
