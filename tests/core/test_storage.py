"""Files on gs:// and s3:// are read, written, copied and deleted, and what a store refuses is told with its cause."""

import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import atomic_io, checksums, storage
from core.errors import InputError
from core.storage import StoreError
from tests.small_model import write_model
from tests.stores import Store


def test_files_come_back_as_they_were_written(store: Store, tmp_path: Path) -> None:
    large = bytes(range(256)) * 30_000  # in more parts than one, to S3
    storage.store(io.BytesIO(large), f"{store.url}/a/large.gz")
    target = io.BytesIO()
    storage.fetch(f"{store.url}/a/large.gz", target)
    assert target.getvalue() == large
    with atomic_io.replacing(f"{store.url}/a/text") as file:
        file.write("größe\r\n\udcff")
    assert atomic_io.read_text(f"{store.url}/a/text") == "größe\r\n\\udcff"
    assert [(one.path, one.size) for one in storage.find(f"{store.url}/a")] == [("large.gz", len(large)), ("text", 15)]
    assert storage.exists(f"{store.url}/a/text") and not storage.exists(f"{store.url}/a/tex")
    with pytest.raises(FileNotFoundError, match="a/absent"):
        atomic_io.read_text(f"{store.url}/a/absent")


def test_a_block_that_raises_writes_nothing(store: Store) -> None:
    atomic_io.write_text(f"{store.url}/x", "before")
    with pytest.raises(ValueError, match="no"), atomic_io.replacing(f"{store.url}/x") as file:
        file.write("half")
        raise ValueError("no")
    assert atomic_io.read_text(f"{store.url}/x") == "before"


def test_files_are_copied_wherever_they_lie_and_folders_deleted(store: Store, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"content")
    storage.copy(f"{tmp_path}/here", f"{store.url}/set/1")
    storage.copy(f"{store.url}/set/1", f"{store.url}/set/deep/2")
    storage.copy(f"{store.url}/set/deep/2", f"{tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == b"content"
    store.put({"settle/1": b"x"})
    storage.delete_folder(f"{store.url}/set", first="1")
    assert [one.path for one in storage.find(store.url)] == ["settle/1"]


def test_a_model_is_verified_and_comes_here_as_a_copy(store: Store, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    for name in checksums.files(str(model)):
        storage.copy(f"{model}/{name}", f"{store.url}/models/7/{name}")
    url = f"{store.url}/models/7"
    assert checksums.files(url) == checksums.files(str(model))
    assert checksums.verify(url) and checksums.is_complete(url) and checksums.problem(url) == ""
    with storage.local_copy(f"{url}/") as local:
        assert Path(local).name == "7" and checksums.verify(local)
        assert checksums.listed(local) == checksums.listed(str(model))
    assert not Path(local).exists()
    with storage.local_copy(f"{url}/saved_model.pb") as local:
        assert Path(local).read_bytes() == (model / "saved_model.pb").read_bytes()
    store.put({"models/7/assets/classes.txt": b"another"})
    assert "assets/classes.txt is damaged" in checksums.problem(url) and not checksums.is_complete(url)
    storage.delete_folder(f"{url}/assets")
    assert checksums.problem(url) == "assets/classes.txt is missing"
    with pytest.raises(FileNotFoundError), storage.local_copy(f"{store.url}/nothing"):
        pass


def test_what_a_store_refuses_is_told_with_its_cause_and_its_needs(store: Store) -> None:
    scheme = store.url.partition("://")[0]
    storage.check_writable(f"{store.url}/folder")
    assert list(storage.find(store.url)) == []
    absent = f"{scheme}://no-such-bucket/x"
    with pytest.raises(StoreError, match=rf"^{absent} cannot be written: .*\. {scheme}:// needs "):
        storage.store(io.BytesIO(b"x"), absent)
    with pytest.raises(InputError, match=rf"^{absent} cannot be written: "):
        storage.check_writable(absent)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_store_that_does_not_answer_is_told_in_time(
    store: Store, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", silent)
    monkeypatch.setattr(storage, "_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"^{store.url}/x cannot be written: the store has not answered for 1 s"):
        storage.check_writable(f"{store.url}/x")
    assert time.monotonic() - began < 10


def test_a_full_disk_of_this_machine_is_none_of_the_stores(store: Store) -> None:
    store.put({"x": bytes(2**20)})
    with pytest.raises(OSError, match="No space left") as error, Path("/dev/full").open("wb", 0) as full:
        storage.fetch(f"{store.url}/x", full)
    assert not isinstance(error.value, StoreError)
