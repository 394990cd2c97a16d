"""The highest version that loads serves; one that goes is unloaded when the last request it answers has ended."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from components.serving.model_versions import ModelVersions, NoSuchVersionError
from core import checksums, signatures
from core.signing import SignatureError
from tests.model_factory import image_bytes, save_model
from trainer.export import warm_up


class Shelf:
    """A folder of versions and what serves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[int, str] = {}
        self.said: list[str] = []
        self.versions = ModelVersions(lambda: self.found, self.said.append)

    def add(self, number: int, first_class: str = "red") -> Path:
        directory = save_model(self.folder / str(number), classes=[first_class, "x", "y"])
        self.found[number] = str(directory)
        return directory

    def states(self) -> dict[int, str]:
        return {version.number: version.state for version in self.versions.states()}

    def answer(self, number: int | None = None) -> tuple[int, str]:
        with self.versions.use(number) as (served, model):
            return served, model.request(signatures.IMAGES, [image_bytes(0)])["label"][0].decode()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    yield made
    made.versions.close()


def test_the_highest_version_serves_and_the_others_are_unloaded(shelf: Shelf) -> None:
    with pytest.raises(NoSuchVersionError):
        shelf.answer()
    shelf.add(9, "nine")
    shelf.versions.poll()
    assert shelf.answer() == (9, "nine")

    shelf.add(10, "ten")
    shelf.versions.poll()

    assert shelf.answer() == shelf.answer(10) == (10, "ten")
    assert shelf.states() == {9: "END", 10: "AVAILABLE"}
    with pytest.raises(NoSuchVersionError):
        shelf.answer(9)
    assert shelf.said == ["version 9 is serving", "version 10 is serving", "version 9 is unloaded"]


def test_a_rollback_brings_the_version_before_back(shelf: Shelf) -> None:
    shelf.add(1, "old")
    shelf.add(2, "new")
    shelf.versions.poll()
    del shelf.found[2]
    shelf.versions.poll()

    assert shelf.answer() == (1, "old")
    assert shelf.states() == {1: "AVAILABLE", 2: "END"}


def test_a_version_that_does_not_load_is_told_and_the_one_before_goes_on(shelf: Shelf) -> None:
    shelf.add(1, "old")
    shelf.versions.poll()
    damaged = shelf.add(2) / "assets" / "classes.txt"
    damaged.write_bytes(damaged.read_bytes().replace(b"red", b"rad"))
    for _ in range(3):
        shelf.versions.poll()

    assert shelf.answer() == (1, "old")
    assert shelf.states() == {1: "AVAILABLE", 2: "END"}
    assert shelf.versions.states()[1].error.startswith("assets/classes.txt is damaged")
    assert [said for said in shelf.said if "2" in said] == [
        "version 2 cannot be loaded: assets/classes.txt is damaged: "
        "its checksum is not the one in assets.extra/SHA256SUMS"
    ]  # once, not at every look


def test_requests_to_warm_up_with_may_leave_the_signature_out_as_for_tensorflow_serving(shelf: Shelf) -> None:
    ask(shelf.add(1), "", "examples")
    shelf.versions.poll()

    assert shelf.said == ["version 1 is serving"]


@pytest.mark.parametrize(
    ("signature", "alias", "reason"),
    [
        ("serving_text", "examples", "KeyError: 'serving_text'"),
        ("serving_default", "text", "TypeError: "),
        ("serving_default", "examples", "InvalidArgumentError: Could not parse example input"),
    ],
)
def test_a_version_that_does_not_answer_its_warm_up_is_told_as_any_that_does_not_load(
    shelf: Shelf, signature: str, alias: str, reason: str
) -> None:
    shelf.add(1, "old")
    shelf.versions.poll()
    ask(shelf.add(2), signature, alias, b"no tf.Example")
    for _ in range(3):
        shelf.versions.poll()

    assert shelf.answer() == (1, "old")
    assert shelf.states() == {1: "AVAILABLE", 2: "END"}
    (told,) = [said for said in shelf.said if "2" in said]
    assert told.startswith(
        "version 2 cannot be loaded: its requests to warm up with, assets.extra/tf_serving_warmup_requests, failed: "
        + reason
    )


def ask(model: Path, signature: str, alias: str, value: bytes = b"") -> None:
    """Gives a model a request to warm up with."""
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs[alias].CopyFrom(tf.make_tensor_proto([value]))
    with tf.io.TFRecordWriter(str(model / warm_up.WARM_UP)) as file:
        file.write(log.SerializeToString())
    checksums.write_checksums(str(model))


def test_a_folder_that_has_lost_its_versions_leaves_the_last_one_serving(shelf: Shelf) -> None:
    shelf.add(1, "only")
    shelf.versions.poll()
    shelf.found.clear()
    shelf.versions.poll()

    assert shelf.answer() == (1, "only")


def test_other_files_under_a_number_that_serves_are_told_once_and_what_was_loaded_serves_on(shelf: Shelf) -> None:
    shelf.add(1, "old")
    shelf.versions.poll()
    shutil.rmtree(shelf.folder / "1")
    shelf.add(1, "new")
    for _ in range(2):
        shelf.versions.poll()

    assert shelf.answer() == (1, "old")
    assert len(shelf.said) == 2 and shelf.said[1].startswith("version 1 was replaced while it serves")


def test_a_version_in_use_is_not_unloaded(shelf: Shelf) -> None:
    shelf.add(1, "old")
    shelf.versions.poll()
    shelf.add(2, "new")
    with shelf.versions.use() as (number, model):
        polling = threading.Thread(target=shelf.versions.poll)
        polling.start()
        polling.join(timeout=3)
        assert polling.is_alive()
        assert shelf.answer() == (2, "new")  # new requests already go to the new one
        assert number == 1
        assert model.request(signatures.IMAGES, [image_bytes(0)])["label"].tolist() == [b"old"]
        assert shelf.states() == {1: "UNLOADING", 2: "AVAILABLE"}
    polling.join()
    assert shelf.states() == {1: "END", 2: "AVAILABLE"}


def test_what_is_being_loaded_when_it_is_closed_is_unloaded_too(tmp_path: Path) -> None:
    looking, found = threading.Event(), threading.Event()
    model = save_model(tmp_path / "1")

    def slow_folder() -> dict[int, str]:
        looking.set()
        found.wait()
        return {1: str(model)}

    versions = ModelVersions(slow_folder)
    versions.poll_every(0.01)
    assert looking.wait(10)
    closing = threading.Thread(target=versions.close)
    closing.start()
    found.set()
    closing.join()

    assert [version.state for version in versions.states()] == ["END"]


def test_a_version_that_no_key_vouches_for_does_not_serve_and_the_one_before_it_does(shelf: Shelf) -> None:
    def verify(directory: str) -> None:
        if directory.endswith("2"):
            raise SignatureError("this version is not signed")

    versions = ModelVersions(lambda: shelf.found, shelf.said.append, verify=verify)
    shelf.add(1)
    shelf.add(2)
    versions.poll()
    assert shelf.said == ["version 2 cannot be loaded: this version is not signed", "version 1 is serving"]
    versions.close()
