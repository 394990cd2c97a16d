"""Weights under the names of others: TF-slim's own network, Keras's, TF-Hub's and this pipeline's own exports."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.server
import io
import ipaddress
import shutil
import ssl
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from keras.src.legacy_tf_layers import convolutional, normalization
from tensorflow import keras

from core import inception_v3
from core.artifacts import exported_model
from core.errors import InputError
from core.settings.training import BackboneConfig
from tests.trainer.conftest import KerasAnswer
from trainer.network import backbone
from trainer.training import checkpoints
from trainer.weights import download, named, sources
from trainer.weights.importing import import_weights

SIZE = 75


def slim_network(images: np.ndarray) -> tf.Tensor:
    """InceptionV3 as TF-slim builds it, [b, h, w, 2048], in the current graph."""
    # TF 2.15 looks for its old layers in a package of their own, which is not installed; they are Keras's.
    sys.modules.setdefault("tf_keras.legacy_tf_layers.convolutional", convolutional)
    sys.modules.setdefault("tf_keras.legacy_tf_layers.normalization", normalization)
    import tf_slim
    from tf_slim.nets import inception_v3 as slim_inception_v3

    with (
        tf_slim.arg_scope(slim_inception_v3.inception_v3_arg_scope()),
        tf_slim.arg_scope([tf_slim.batch_norm], is_training=False),
    ):
        output, _ = slim_inception_v3.inception_v3_base(tf.constant(images), scope="InceptionV3")
    return output


@pytest.fixture(scope="module")
def slim(keras_answer: KerasAnswer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A checkpoint that slim wrote, in the format of the published one, and what slim computes with it."""
    path = tmp_path_factory.mktemp("slim") / "inception_v3.ckpt"
    random = np.random.default_rng(5)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(7)
        output = slim_network(keras_answer.images)
        tf.compat.v1.train.create_global_step()
        tf.compat.v1.get_variable("InceptionV3/Logits/Conv2d_1c_1x1/biases", [1001])
        session.run(tf.compat.v1.global_variables_initializer())
        norms = [variable for variable in tf.compat.v1.global_variables() if "BatchNorm" in variable.op.name]
        values = [value * 0.5 + random.uniform(0.05, 0.2, value.shape) for value in session.run(norms)]
        assigned = {norm.initializer.inputs[1]: value for norm, value in zip(norms, values, strict=True)}
        session.run([norm.initializer for norm in norms], assigned)  # `load` takes them one by one, in twenty seconds
        tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V1).save(
            session, str(path), write_meta_graph=False
        )
        return path, session.run(output)


def test_slim_checkpoint_computes_in_our_network_what_slim_computes(
    slim: tuple[Path, np.ndarray], keras_answer: KerasAnswer, tmp_path: Path
) -> None:
    path, answer = slim
    assert path.is_file()  # TensorFlow's first format: one file
    record = import_weights(BackboneConfig(weights=str(path), image_size=SIZE), str(tmp_path / "base"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output = backbone.build(tf.constant(keras_answer.images), None, "mixed10").blocks["mixed10"]
        backbone.restore(session, str(tmp_path / "base"))
        computed = session.run(output)
    assert np.abs(answer).max() > 0.01
    np.testing.assert_allclose(computed, answer, rtol=1e-4, atol=1e-6 * np.abs(answer).max())
    assert (record.source, record.random) == ("inception_v3.ckpt", False)
    assert record.sha256 == sources.fingerprint(BackboneConfig(str(path)))


def test_every_tensor_of_slims_base_has_its_place(slim: tuple[Path, np.ndarray]) -> None:
    stored = {name: tuple(shape) for name, shape in tf.train.list_variables(str(slim[0]))}
    mapped = named.tensor_names(stored, "it")
    ours = {f"{layer.name}/{w}": shape for layer in inception_v3.layers() for w, shape in layer.weights}
    assert {name: stored[theirs] for name, theirs in mapped.items()} == ours
    assert set(stored) - set(mapped.values()) == {"global_step", "InceptionV3/Logits/Conv2d_1c_1x1/biases"}


def test_model_of_this_pipeline_gives_its_base_back(suffix_run: Path) -> None:
    arrays, source, _ = sources.load(BackboneConfig(weights=str(suffix_run / "Format-Serving")))
    exported = backbone.unfolded(str(suffix_run / "Format-Serving"))
    assert len(arrays) == 376
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, exported[f"InceptionV3/{name}"], err_msg=name)
    assert source == f"{suffix_run.name}/Format-Serving"


def test_a_pushed_model_gives_its_base_back_and_folds_to_the_same_again(suffix_run: Path, tmp_path: Path) -> None:
    pushed = tmp_path / "17"
    shutil.copytree(suffix_run / "Format-Serving", pushed)
    before = sources.fingerprint(BackboneConfig(weights=str(pushed)))
    arrays, _, sha256 = sources.load(BackboneConfig(weights=str(pushed)))
    folded = backbone.fold({f"InceptionV3/{name}": value for name, value in arrays.items()})
    served = checkpoints.read(exported_model.checkpoint(str(pushed)))
    for name, value in folded.items():
        np.testing.assert_array_equal(served[name], value, err_msg=name)
    assert sha256 == before
    norms = next((pushed / "assets.extra").glob("batch_norms.data*"))
    norms.write_bytes(norms.read_bytes()[:-100])
    assert sources.fingerprint(BackboneConfig(weights=str(pushed))) != before
    with pytest.raises(InputError, match="17 is damaged: it cannot be unfolded"):
        sources.load(BackboneConfig(weights=str(pushed)))


def test_saved_model_of_keras_is_read_by_order(tmp_path: Path) -> None:
    """A whole `model.save`, of a network that ends at its first block; numbered on from an earlier one."""
    keras.layers.Conv2D(1, 1).build((None, 4, 4, 1))
    whole = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    end = next(layer.output for layer in whole.layers if layer.name == "mixed0")
    model = keras.Model(whole.input, end)
    assert "conv2d" not in [layer.name for layer in model.layers]
    model.save(str(tmp_path / "model"), save_format="tf")
    arrays, _, _ = sources.load(BackboneConfig(weights=str(tmp_path / "model"), output="mixed0"))
    needed = [layer for layer in inception_v3.between(None, "mixed0") if layer.weights]
    values = [value for layer in model.layers for value in layer.get_weights()]
    assert list(arrays) == [f"{layer.name}/{weight}" for layer in needed for weight, _ in layer.weights]
    for value, wanted in zip(arrays.values(), values, strict=True):
        np.testing.assert_array_equal(value, wanted)
    with pytest.raises(InputError, match=r"not a complete InceptionV3.*backbone\.output: mixed10 needs it"):
        sources.load(BackboneConfig(weights=str(tmp_path / "model")))


@pytest.fixture
def hub(tmp_path: Path, keras_answer: KerasAnswer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The handle of a TF2 module, whose variables have slim's names, on a server that speaks TF-Hub's protocol."""
    module = tf.Module()
    mapped = named.tensor_names(["InceptionV3/Conv2d_1a_3x3/weights"], "it")
    names = [mapped[f"{layer.name}/{weight}"] for layer in inception_v3.layers() for weight, _ in layer.weights]
    module.all = [tf.Variable(value, name=name) for name, value in zip(names, keras_answer.weights, strict=True)]
    tf.saved_model.save(module, str(tmp_path / "module"))
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / "1", "w:gz", compresslevel=1) as archive:
        archive.add(tmp_path / "module", ".")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with serving(handler, write_certificate(tmp_path / "server.pem"), monkeypatch) as address:
        yield f"{address}/1"


@contextlib.contextmanager
def serving(handler: Callable[..., object], certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https server's address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_certificate(path: Path) -> Path:
    """A key and its certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_hub_module_is_downloaded_once_and_read_by_slims_names(hub: str, keras_answer: KerasAnswer) -> None:
    arrays, source, sha256 = sources.load(BackboneConfig(weights=hub))
    assert source == hub
    for (name, value), right in zip(arrays.items(), keras_answer.weights, strict=True):
        np.testing.assert_array_equal(value, right, err_msg=name)
    assert sources.fingerprint(BackboneConfig(hub)) == sha256


def test_a_hub_handle_that_is_not_encrypted_is_refused_with_a_way_through() -> None:
    for use in (sources.load, sources.fingerprint):
        with pytest.raises(
            InputError, match=r"could change what http:// brings\. Give its https:// address; or download"
        ):
            use(BackboneConfig(weights="http://127.0.0.1:9/1"))


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/1", ""])
def test_hub_modules_come_encrypted_into_the_users_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if target else 200)
            if target:
                self.send_header("Location", target)
            self.end_headers()
            self.wfile.write(b"" if target else module)

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        file = tarfile.TarInfo("saved_model.pb")
        file.size = 1
        archive.addfile(file, io.BytesIO(b"x"))
    module = packed.getvalue()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", "")
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    with serving(Answer, write_certificate(tmp_path / "server.pem"), monkeypatch) as address:
        if target:
            with pytest.raises(download.UnreachableError, match=f"redirected to {target}, which is not encrypted"):
                download.hub_folder(f"{address}/1")
        else:
            folder = download.hub_folder(f"{address}/1")
            assert folder.parent == tmp_path / "home" / ".cache" / "tfhub_modules"
            assert (folder / "saved_model.pb").is_file()


def test_unreachable_hub_module_is_an_error_unless_random_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://127.0.0.1:9/module/1"
    with pytest.raises(InputError, match=r"module/1 is not in TF-Hub's cache.*if_unreachable to random"):
        sources.load(BackboneConfig(weights=handle))
    assert sources.load(BackboneConfig(weights=handle, if_unreachable="random"))[1] == "random"
    assert "THE BASE NETWORK IS RANDOM" in caplog.text
    assert sources.fingerprint(BackboneConfig(handle)) == "unreachable"


Change = Callable[[dict[str, np.ndarray]], object]


def write_slim(prefix: Path, change: Change) -> BackboneConfig:
    """The random network up to mixed0 as a checkpoint with slim's names, changed."""
    drawn, _, _ = sources.load(BackboneConfig(weights="random"))
    mapped = named.tensor_names(["InceptionV3/Conv2d_1a_3x3/weights"], "it")
    needed = [f"{layer.name}/{w}" for layer in inception_v3.between(None, "mixed0") for w, _ in layer.weights]
    arrays = {mapped[name]: drawn[name] for name in needed}
    change(arrays)
    checkpoints.write(str(prefix), arrays)
    return BackboneConfig(weights=str(prefix), output="mixed0")


FIRST, STEM = "InceptionV3/Conv2d_1a_3x3/weights", "InceptionV3/Conv2d_2a_3x3"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda arrays: arrays.update({f"{STEM}/weights": np.zeros((3, 3, 32, 31), np.float32)}),
            r"Conv2d_2a_3x3/weights has the shape \(3, 3, 32, 31\), where conv2d_1/kernel of shape \(3, 3, 32, 32\)",
        ),
        (
            lambda arrays: arrays.pop(f"{STEM}/BatchNorm/beta"),
            r"no tensor InceptionV3/Conv2d_2a_3x3/BatchNorm/beta, which would have the shape \(32,\)",
        ),
        (
            lambda arrays: arrays.update({f"{STEM}/BatchNorm/gamma": np.ones(32, np.float32)}),
            r"BatchNorm with gamma \(InceptionV3/Conv2d_2a_3x3/BatchNorm/gamma\)",
        ),
        (
            lambda arrays: arrays.update({FIRST: arrays[FIRST] * np.nan}),
            r"Conv2d_1a_3x3/weights holds NaN",
        ),
        (
            lambda arrays: arrays.pop(FIRST),
            r"holds no InceptionV3 known here",
        ),
    ],
    ids=["shape", "missing", "gamma", "nan", "unknown"],
)
def test_checkpoint_that_does_not_fit_says_which_tensor(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(InputError, match=words):
        sources.load(write_slim(tmp_path / "model.ckpt", change))


def test_gamma_of_keras_is_not_ignored(tmp_path: Path) -> None:
    drawn, _, _ = sources.load(BackboneConfig(weights="random"))
    checkpoints.write(str(tmp_path / "keras.ckpt"), drawn | {"batch_normalization_4/gamma": np.ones(64, np.float32)})
    with pytest.raises(InputError, match=r"BatchNorm with gamma \(batch_normalization_4/gamma\).*moving_mean by gamma"):
        sources.load(BackboneConfig(weights=str(tmp_path / "keras.ckpt")))


def test_gamma_that_was_multiplied_in_is_gone_without_a_trace() -> None:
    """What docs/fine-tuning.md says of layers that stay frozen."""
    random = np.random.default_rng(3)
    x = random.normal(size=(4, 5, 5, 3)).astype(np.float32)
    kernel, (beta, mean) = random.normal(size=(3, 3, 3, 6)).astype(np.float32), random.normal(size=(2, 6))
    gamma, variance = random.uniform(-2, 2, 6), random.uniform(0.1, 2, 6)
    with_gamma = keras.layers.BatchNormalization(epsilon=1e-3)
    without = keras.layers.BatchNormalization(epsilon=1e-3, scale=False)
    for layer in (with_gamma, without):
        layer.build((None, 3, 3, 6))
    with_gamma.set_weights([gamma, beta, mean, variance])
    without.set_weights([beta, mean * gamma, variance])
    wanted = with_gamma(tf.nn.conv2d(x, kernel, 1, "VALID"), training=False)
    found = without(tf.nn.conv2d(x, kernel * gamma.astype(np.float32), 1, "VALID"), training=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_checkpoint_is_named_by_its_prefix_or_any_of_its_files(tmp_path: Path) -> None:
    config = write_slim(tmp_path / "model.ckpt-7", lambda arrays: None)
    by_prefix = sources.load(config)
    by_index = sources.load(BackboneConfig(weights=f"{config.weights}.index", output="mixed0"))
    assert by_prefix[1:] == by_index[1:]
    assert by_prefix[1] == "model.ckpt-7"
    assert len(by_prefix[0]) == 48
    remote = sources.load(BackboneConfig(weights=f"file://{config.weights}", output="mixed0"))
    assert remote[1:] == by_prefix[1:]


def test_folder_that_is_no_saved_model_says_what_to_give(tmp_path: Path, suffix_run: Path) -> None:
    with pytest.raises(InputError, match=r"no SavedModel, it has no saved_model\.pb; of a checkpoint, give its prefix"):
        sources.load(BackboneConfig(weights=str(tmp_path)))
    with pytest.raises(InputError, match=r"give one of its versions, such as .*Format-Serving"):
        sources.load(BackboneConfig(weights=str(suffix_run)))


def test_file_of_something_else_is_said(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"something else entirely")
    with pytest.raises(InputError, match=r"neither a Keras \.h5 file nor a TensorFlow checkpoint"):
        sources.load(BackboneConfig(weights=str(tmp_path / "weights.ckpt")))


def test_checkpoint_that_was_cut_short_is_said(tmp_path: Path) -> None:
    config = write_slim(tmp_path / "model.ckpt", lambda arrays: None)
    (data,) = tmp_path.glob("model.ckpt.data*")
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"is damaged: its tensor InceptionV3/.* cannot be read"):
        sources.load(config)
