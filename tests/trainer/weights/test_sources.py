import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from core import inception_v3
from core.errors import InputError
from core.settings.training import BackboneConfig
from tests.conftest import ROOT
from trainer.weights import download, sources


def write_h5(path: Path, change: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value) -> None:
    """The random network as Keras's `save_weights` lays it out, in half precision, each tensor through `change`."""
    arrays, _, _ = sources.load(BackboneConfig(weights="random"))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in inception_v3.layers()]
        for layer in inception_v3.layers():
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{weight}:0".encode() for weight, _ in layer.weights]
            for weight, _ in layer.weights:
                name = f"{layer.name}/{weight}"
                group[f"{name}:0"] = change(name, arrays[name]).astype(np.float16)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty home directory, and a download host that refuses: what a cluster without internet looks like."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(download, "cache_directories", lambda: [tmp_path / ".keras" / "models"])
    monkeypatch.setattr(download, "URL", "https://127.0.0.1:9/weights.h5")
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / ".keras" / "models"


def test_random_weights_are_keras_initial_values() -> None:
    arrays, source, _ = sources.load(BackboneConfig(weights="random"))
    assert source == "random"
    assert len(arrays) == 376
    kernel = arrays["conv2d_93/kernel"]
    limit = np.sqrt(6 / (2048 + 192))  # Glorot uniform
    assert kernel.dtype == np.float32
    assert kernel.shape == (1, 1, 2048, 192)
    assert limit * 0.999 < np.abs(kernel).max() <= limit
    assert abs(kernel.mean()) < limit / 100
    assert not arrays["batch_normalization_93/beta"].any()
    assert (arrays["batch_normalization_93/moving_variance"] == 1).all()


def test_random_weights_are_the_same_in_every_process_and_need_no_tensorflow() -> None:
    program = (
        "import sys; from trainer.weights import sources; from core.settings.training import BackboneConfig;"
        "print(sources.load(BackboneConfig(weights='random'))[2]);"
        "assert 'tensorflow' not in sys.modules"
    )
    other = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sources.load(BackboneConfig(weights="random"))[2]


def test_half_precision_file_is_widened(tmp_path: Path) -> None:
    path = tmp_path / "half.h5"
    write_h5(path)
    arrays, source, sha256 = sources.load(BackboneConfig(weights=str(path)))
    drawn, _, _ = sources.load(BackboneConfig(weights="random"))
    assert source == "half.h5"
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == sources.fingerprint(BackboneConfig(str(path)))
    assert all(value.dtype == np.float32 for value in arrays.values())
    np.testing.assert_array_equal(arrays["conv2d_5/kernel"], drawn["conv2d_5/kernel"].astype(np.float16))


def test_partial_imagenet_file_loads(shared: Path) -> None:
    path = shared / "weights" / "inception_v3_imagenet_partial_notop.h5"
    arrays, source, _ = sources.load(BackboneConfig(weights=str(path)))
    assert source == path.name
    assert {n: a.shape for n, a in arrays.items()} == {
        f"{layer.name}/{weight}": shape for layer in inception_v3.layers() for weight, shape in layer.weights
    }


def test_tensor_that_does_not_fit_is_named_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    write_h5(path, lambda name, value: value[:, :, :, :60] if name == "conv2d_7/kernel" else value)
    with pytest.raises(InputError, match=r"conv2d_7/kernel:0 has the shape \(5, 5, 48, 60\).*shape \(5, 5, 48, 64\)"):
        sources.load(BackboneConfig(weights=str(path)))


def test_damaged_numbers_are_found(tmp_path: Path) -> None:
    path = tmp_path / "nan.h5"
    write_h5(path, lambda name, value: value * np.nan if name == "conv2d_1/kernel" else value)
    with pytest.raises(InputError, match="conv2d_1/kernel:0 holds NaN"):
        sources.load(BackboneConfig(weights=str(path)))


def test_network_with_its_top_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "top.h5"
    write_h5(path)
    with h5py.File(path, "a") as file:
        names = [str(name).encode() for name in file.attrs["layer_names"]] + [b"predictions"]
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = names
        group = file.create_group("predictions")
        group.attrs["weight_names"] = [b"predictions/kernel:0"]
        group["predictions/kernel:0"] = np.zeros((2048, 1000), np.float16)
    with pytest.raises(InputError, match=r"377 tensors, not 376.*predictions/kernel.*include_top=False"):
        sources.load(BackboneConfig(weights=str(path)))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not hdf5", "is not an HDF5 file"), (None, "neither imagenet, nor random, nor a file")],
)
def test_what_is_no_weights_file_is_said(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        sources.load(BackboneConfig(weights=str(path)))


def test_hdf5_file_of_something_else_is_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(InputError, match="holds no Keras layers"):
        sources.load(BackboneConfig(weights=str(tmp_path / "data.h5")))


def test_unreachable_imagenet_says_which_file_to_put_where(no_network: Path) -> None:
    with pytest.raises(InputError) as error:
        sources.load(BackboneConfig(weights="imagenet"))
    for words in (download.URL, str(no_network), "backbone.weights", "backbone.if_unreachable"):
        assert words in str(error.value)
    assert sources.fingerprint(BackboneConfig("imagenet")) == "unreachable"


def test_unreachable_imagenet_falls_back_only_where_asked_and_says_so_loudly(
    no_network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays, source, _ = sources.load(BackboneConfig(weights="imagenet", if_unreachable="random"))
    assert source == "random"
    assert len(arrays) == 376
    assert "THE BASE NETWORK IS RANDOM" in caplog.text


def test_file_in_the_cache_is_used_without_a_network(no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network.mkdir(parents=True)
    cached = no_network / download.FILE_NAME
    write_h5(cached)
    monkeypatch.setattr(download, "MD5", hashlib.md5(cached.read_bytes()).hexdigest())
    arrays, source, sha256 = sources.load(BackboneConfig(weights="imagenet"))
    assert (len(arrays), source) == (376, "imagenet")
    assert sha256 == hashlib.sha256(cached.read_bytes()).hexdigest()
    assert sources.fingerprint(BackboneConfig("imagenet")) == download.MD5


def test_other_file_in_the_cache_is_neither_used_nor_deleted(no_network: Path) -> None:
    no_network.mkdir(parents=True)
    cached = no_network / download.FILE_NAME
    cached.write_bytes(b"my own")
    with pytest.raises(InputError, match="is not the file that Keras publishes"):
        sources.load(BackboneConfig(weights="imagenet", if_unreachable="random"))
    assert cached.read_bytes() == b"my own"


def test_pinned_weights_are_those_or_none(tmp_path: Path, no_network: Path) -> None:
    path = tmp_path / "w.h5"
    write_h5(path)
    config = BackboneConfig(weights=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert sources.load(config)[2] == sources.fingerprint(config) == config.sha256
    path.write_bytes(path.read_bytes() + b"x")
    changed = hashlib.sha256(path.read_bytes()).hexdigest()
    for use in (sources.load, sources.fingerprint):
        with pytest.raises(InputError, match=f"whose SHA-256 is {changed}, and backbone.sha256 wants {config.sha256}"):
            use(config)
    assert sources.fingerprint(dataclasses.replace(config, sha256=changed)) == changed  # as the message says
    with pytest.raises(InputError, match="cannot be downloaded"):  # and no random ones in their place
        sources.load(BackboneConfig(weights="imagenet", if_unreachable="random", sha256=changed))


def test_random_weights_can_be_pinned() -> None:
    with pytest.raises(InputError, match=r"whose SHA-256 is [0-9a-f]{64}, and") as error:
        sources.load(BackboneConfig(weights="random", sha256="0" * 64))
    found = str(error.value).split("SHA-256 is ")[1][:64]
    assert sources.load(BackboneConfig(weights="random", sha256=found))[2] == found
