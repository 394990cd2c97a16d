import functools
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from components.feature_extractor import FeatureExtractor
from components.features import feature_extraction, feature_session, probe
from components.features.feature_session import FeatureSession, Prefix, choose_sessions
from core import progress
from core.artifacts.features import UNVARIED, FeatureConfig, Variants
from core.errors import InputError
from core.settings import converter
from core.settings.training import AugmentationConfig, BackboneConfig
from tests.components.conftest import encoded, picture
from tests.trainer import training_data
from trainer.network import backbone
from trainer.training import inputs
from trainer.weights.importing import import_weights

SIZE = 75
TRAIN, EVAL, TEST = 21, 10, 2  # whole batches in none
KEPT = EVAL + TEST
LABELS = ("cat", "dog")
PROBED = len(probe.images(SIZE))
WHOLE, FIRST = ("mixed10",), ("mixed1",)
"""Outputs: of the whole network, and of its first blocks, where what is computed is not the point."""

needs_bfloat16 = pytest.mark.skipif(
    not feature_session.cpu_has_bfloat16(), reason="this CPU has neither AVX512_BF16 nor AMX"
)


class Data(NamedTuple):
    """What stands before FeatureExtractor in a pipeline, and what Keras computes from it."""

    examples: standard_artifacts.Examples
    transform: standard_artifacts.TransformGraph
    backbone: standard_artifacts.Model
    pooled: dict[bytes, np.ndarray]
    labels: dict[bytes, int]

    def prefix(self, cut: str = "pooled") -> Prefix:
        return Prefix(self.transform.uri, f"{self.backbone.uri}/Format-Serving", cut, ("mixed10",))

    def records(self, split: str) -> list[bytes]:
        files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([self.examples], split)}/*")
        return list(tf.data.TFRecordDataset(files).as_numpy_iterator())


def write(examples: standard_artifacts.Examples, split: str, numbers: Iterable[int]) -> None:
    folder = Path(artifact_utils.get_split_uri([examples], split))
    folder.mkdir(parents=True)
    ordered = list(numbers)
    for shard, of_shard in enumerate((ordered[:10], ordered[10:])):
        with tf.io.TFRecordWriter(str(folder / f"data_tfrecord-{shard:05}-of-00002")) as writer:
            for number in of_shard:
                writer.write(raw_example(number))


def raw_example(number: int) -> bytes:
    example = tf.train.Example.FromString(
        training_data.raw_example(encoded(picture(number, 90, 60)), LABELS[number % 2])
    )
    example.features.feature["image/sha256"].bytes_list.value.append(f"{number:04d}".encode())
    return example.SerializeToString()


def preprocessed(numbers: Iterable[int]) -> np.ndarray:
    pictures = np.stack([np.asarray(picture(number, 90, 60)) for number in numbers])
    return (tf.image.resize(pictures, [SIZE, SIZE], antialias=True) / 127.5 - 1).numpy()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    where = tmp_path_factory.mktemp("features")
    numbers = {"train": range(TRAIN), "eval": range(100, 100 + EVAL), "test": range(200, 200 + TEST)}
    examples = standard_artifacts.Examples()
    examples.uri = str(where / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(numbers))
    for split, of in numbers.items():
        write(examples, split, of)
        examples.set_int_custom_property(f"examples_{split}", len(of))

    transform = standard_artifacts.TransformGraph()
    transform.uri = str(where / "transform")
    training_data.run_transform([raw_example(number) for number in numbers["train"]], Path(transform.uri), SIZE)

    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # statistics that matter
            beta, mean, variance = layer.get_weights()
            layer.set_weights([beta + 0.1, mean - 0.05, variance * 0.3])
    network.save_weights(str(where / "weights.h5"))
    model = standard_artifacts.Model()
    model.uri = str(where / "backbone")
    config = BackboneConfig(weights=str(where / "weights.h5"), image_size=SIZE)
    import_weights(config, f"{model.uri}/Format-Serving")

    every = [number for of in numbers.values() for number in of]
    answers = network.predict(preprocessed(every), verbose=0).mean((1, 2))
    names = [f"{number:04d}".encode() for number in every]
    return Data(
        examples,
        transform,
        model,
        dict(zip(names, answers, strict=True)),
        dict(zip(names, [number % 2 for number in every], strict=True)),
    )


@pytest.fixture(scope="module")
def extract(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., standard_artifacts.Examples]:
    """Runs the component's executor on Beam's DirectRunner; once for the same arguments."""

    @functools.cache
    def run(
        cut: str = "pooled",
        outputs: tuple[str, ...] = FIRST,
        batch_size: int = 8,
        bfloat16: str = "off",
        variants: Variants = UNVARIED,
        earlier: tuple[standard_artifacts.Examples, ...] = (),
        train: Collection[int] | None = None,
        counted: int | None = None,
        code: str = "code",
    ) -> standard_artifacts.Examples:
        component = FeatureExtractor(
            examples=types.Channel(type=standard_artifacts.Examples),
            transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
            backbone=types.Channel(type=standard_artifacts.Model),
            config=converter.to_json(FeatureConfig(cut, outputs, batch_size, bfloat16, variants)),
            code=code,
        )
        features = standard_artifacts.Examples()
        features.uri = str(tmp_path_factory.mktemp("artifact"))
        examples = data.examples if train is None else some_of(data.examples, train)
        if counted is not None:
            examples.set_int_custom_property("examples_train", counted)
            for split, number in (("eval", EVAL), ("test", TEST)):
                examples.set_int_custom_property(f"examples_{split}", number)
        component.executor_spec.executor_class().Do(
            {
                "examples": [examples],
                "transform_graph": [data.transform],
                "backbone": [data.backbone],
                "earlier": list(earlier),
            },
            {"features": [features]},
            component.exec_properties,
        )
        return features

    def some_of(examples: standard_artifacts.Examples, train: Collection[int]) -> standard_artifacts.Examples:
        """The same evaluation images, other training images."""
        artifact = standard_artifacts.Examples()
        artifact.uri = str(tmp_path_factory.mktemp("some") / "examples")
        artifact.split_names = examples.split_names
        for split in ("Split-eval", "Split-test"):
            shutil.copytree(Path(examples.uri) / split, Path(artifact.uri) / split)
        write(artifact, "train", train)
        return artifact

    return run


def read(features: standard_artifacts.Examples, split: str) -> dict[bytes, tuple[np.ndarray, int]]:
    """By hash, in the order of the records."""
    described = json.loads(Path(features.uri, "features.json").read_text())
    found = {}
    for path in sorted(Path(features.uri, f"Split-{split}").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            (sha256,) = feature["image/sha256"].bytes_list.value
            (array,) = feature["features"].bytes_list.value
            (label,) = feature["label_xf"].int64_list.value
            assert sha256 not in found
            found[sha256] = (
                np.frombuffer(array, described["splits"][split]["dtype"]).reshape(described["shape"]),
                label,
            )
    return found


def test_features_are_what_keras_computes_each_image_once(
    data: Data, extract: Callable[..., standard_artifacts.Examples], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, progress.LOGGER_NAME):
        features = extract(outputs=WHOLE)
    assert artifact_utils.decode_split_names(features.split_names) == ["train", "eval", "test"]
    splits = [read(features, split) for split in ("train", "eval", "test")]
    assert [len(of_split) for of_split in splits] == [TRAIN, EVAL, TEST]
    found = splits[0] | splits[1] | splits[2]
    assert [(name, label) for name, (_, label) in found.items()] == list(data.labels.items())  # in the images' order
    for name, expected in data.pooled.items():
        np.testing.assert_allclose(found[name][0], expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())
    said = [record.progress for record in caplog.records if record.name == progress.LOGGER_NAME]
    assert said[-1] == {"done": TRAIN + KEPT, "total": TRAIN + KEPT, "unit": "images", "note": "float32"}


def test_an_image_without_features_is_an_internal_error(extract: Callable[..., standard_artifacts.Examples]) -> None:
    with pytest.raises(ValueError, match=f"{KEPT + 3} images were to be read; features of {KEPT + 2} were written"):
        extract(train=(1, 2), counted=3)
    features = extract(train=(1, 2), counted=2)
    assert not [path for path in Path(features.uri).iterdir() if path.name.startswith(".")]


def test_the_batch_size_does_not_matter(extract: Callable[..., standard_artifacts.Examples]) -> None:
    small, large = read(extract(batch_size=3), "train"), read(extract(), "train")
    assert list(small) == list(large)
    for name, (values, _) in small.items():
        np.testing.assert_allclose(values, large[name][0], rtol=1e-4, atol=1e-5 * np.abs(values).max())


def test_a_map_is_stored_in_half_precision_as_the_trainer_reads_it(
    data: Data, extract: Callable[..., standard_artifacts.Examples]
) -> None:
    features = extract(cut="mixed9", outputs=WHOLE)
    described = json.loads(Path(features.uri, "features.json").read_text())
    assert (described["cut"], described["shape"]) == ("mixed9", [1, 1, 2048])
    assert {split: of["dtype"] for split, of in described["splits"].items()} == {
        "train": "float16", "eval": "float16", "test": "float32",
    }  # fmt: skip
    source = inputs.find([f"{features.uri}/Split-eval/*"], data.transform.uri)
    (batch,) = inputs.evaluation_input(source, batch_size=100)().as_numpy_iterator()
    stored = read(features, "eval")
    np.testing.assert_array_equal(batch[0]["features"], np.stack([values for values, _ in stored.values()]))
    assert batch[1].tolist() == [label for _, label in stored.values()]

    resized = preprocessed(range(100, 100 + EVAL))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        exact = backbone.frozen_prefix(tf.constant(resized), "mixed9", "mixed10")
        backbone.restore(session, data.prefix().backbone_directory)
        expected = session.run(exact)
    assert feature_session.relative_error(batch[0]["features"], expected) < 1e-3


def test_one_pass_gives_the_averages_of_several_blocks(
    data: Data, extract: Callable[..., standard_artifacts.Examples]
) -> None:
    both = extract(outputs=("mixed8", "mixed10"))
    found, alone = read(both, "eval"), read(extract(outputs=WHOLE), "eval")
    assert {values.shape for values, _ in found.values()} == {(1280 + 2048,)}
    for name, (values, _) in alone.items():
        np.testing.assert_allclose(found[name][0][1280:], values, rtol=1e-4, atol=1e-5 * np.abs(values).max())
    patterns = [f"{both.uri}/Split-eval/*"]
    for output, columns in (("mixed8", slice(0, 1280)), ("mixed10", slice(1280, None))):
        source = inputs.find(patterns, data.transform.uri, output)
        (batch,) = inputs.evaluation_input(source, batch_size=100)().as_numpy_iterator()
        np.testing.assert_array_equal(batch[0]["features"], np.stack([v[columns] for v, _ in found.values()]))
    with pytest.raises(ValueError, match="the features are of mixed8, mixed10, but mixed9 is wanted"):
        inputs.find(patterns, data.transform.uri, "mixed9")


@needs_bfloat16
def test_bfloat16_is_taken_if_it_agrees_and_nothing_else_in_the_process_changes(
    data: Data, extract: Callable[..., standard_artifacts.Examples]
) -> None:
    before = tf.config.optimizer.get_experimental_options()
    features = extract(outputs=WHOLE, bfloat16="auto")
    assert tf.config.optimizer.get_experimental_options() == before
    described = json.loads(Path(features.uri, "features.json").read_text())
    assert {split: of["bfloat16"] for split, of in described["splits"].items()} == {
        "train": True, "eval": True, "test": False,
    }  # fmt: skip
    assert 1e-4 < described["bfloat16_error"] <= feature_session.MAX_BFLOAT16_ERROR
    found = read(features, "train")
    values = np.stack([found[name][0] for name in sorted(found)])
    exact = np.stack([data.pooled[name] for name in sorted(found)])
    assert 1e-4 < feature_session.relative_error(values, exact) <= 1.5 * feature_session.MAX_BFLOAT16_ERROR
    for name, (judged, _) in read(features, "test").items():
        assert feature_session.relative_error(judged, data.pooled[name]) < 1e-4


@needs_bfloat16
def test_bfloat16_is_refused_if_it_disagrees(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_session, "MAX_BFLOAT16_ERROR", 1e-6)
    sample = data.records("train")[:4]
    choice = choose_sessions(data.prefix("mixed0"), "auto", sample)
    assert not choice.bfloat16
    assert choice.error is not None and choice.error > 1e-6
    assert "off float32 on 4 images" in choice.reason
    with pytest.raises(InputError, match=r"runtime\.bfloat16 is on, but it is .* off float32"):
        choose_sessions(data.prefix("mixed0"), "on", sample)


def test_bfloat16_needs_a_cpu_that_has_it(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_session, "cpu_has_bfloat16", lambda: False)
    choice = choose_sessions(data.prefix("mixed0"), "auto", data.records("train")[:1])
    assert (choice.bfloat16, choice.reason) == (False, "this CPU has neither AVX512_BF16 nor AMX")
    with pytest.raises(InputError, match="neither AVX512_BF16 nor AMX"):
        choose_sessions(data.prefix("mixed0"), "on", data.records("train")[:1])


def test_a_session_names_the_shape_and_reads_hash_and_label(data: Data) -> None:
    session = FeatureSession(data.prefix("mixed0"), bfloat16=False)
    batch = data.records("eval")[:3]
    features = session.features(batch)
    assert features.shape == (3, *session.shape)
    assert features.dtype == np.float32
    labels, hashes = session.identify(batch)
    assert hashes.tolist() == [b"0100", b"0101", b"0102"]
    assert labels.tolist() == [0, 1, 0]


def test_relative_error_is_infinite_where_there_is_nothing_to_compare() -> None:
    ones = np.ones(4, np.float32)
    assert feature_session.relative_error(ones * 1.01, ones) == pytest.approx(0.01, rel=1e-3)
    assert feature_session.relative_error(ones * np.nan, ones) == float("inf")
    assert feature_session.relative_error(ones, ones * 0) == float("inf")


def test_without_images_nothing_is_tried(data: Data) -> None:
    choice = choose_sessions(data.prefix("mixed0"), "auto", [])
    assert (choice.bfloat16, choice.error) == (False, None)


def counts(features: standard_artifacts.Examples) -> tuple[int, int]:
    names = ("images_computed", "images_reused")
    computed, reused = (features.get_int_custom_property(name) for name in names)
    return computed, reused


@pytest.fixture
def through_the_network(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the size of every batch that goes through the network."""
    sizes: list[int] = []
    original = FeatureSession.features

    def counted(session: FeatureSession, batch: list[bytes], *view: int) -> np.ndarray:
        sizes.append(len(batch))
        return original(session, batch, *view)

    monkeypatch.setattr(FeatureSession, "features", counted)
    return sizes


def test_only_new_images_go_through_the_network(
    data: Data, extract: Callable[..., standard_artifacts.Examples], through_the_network: list[int]
) -> None:
    """21 + 12 images are known, of which 18 + 12 are still there, and 6 arrive: in one batch, though far apart."""
    first = extract()
    assert counts(first)[1] == 0
    through_the_network.clear()
    there = (300, *range(6), 301, 302, *range(9, 15), 303, *range(15, 21), 304, 305)
    second = extract(earlier=(first,), train=there)
    assert through_the_network == [PROBED, 6]
    assert counts(second) == (6, 28 + TEST)
    before, train, evaluation = read(first, "train"), read(second, "train"), read(second, "eval")
    assert list(train) == [f"{number:04d}".encode() for number in there]  # known and new ones in the images' order
    assert all(np.array_equal(train[name][0], before[name][0]) for name in set(train) & set(before))
    assert {name: label for name, (_, label) in (train | evaluation).items()}.items() >= {
        name: label for name, label in data.labels.items() if name in train | evaluation
    }.items()
    new = preprocessed([300])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        exact = backbone.frozen_prefix(tf.constant(new), "pooled", *FIRST)
        backbone.restore(session, data.prefix().backbone_directory)
        (expected,) = session.run(exact)
    np.testing.assert_allclose(train[b"0300"][0], expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())


def test_known_features_do_not_wait_for_a_full_batch_where_that_holds_too_much_in_memory(
    extract: Callable[..., standard_artifacts.Examples], through_the_network: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract()
    through_the_network.clear()
    monkeypatch.setattr(feature_extraction, "_MOST_HELD", 0)
    there = (310, *range(8), 311, *range(9, 15))
    assert list(read(extract(earlier=(first,), train=there), "train")) == [f"{n:04d}".encode() for n in there]
    assert through_the_network == [PROBED, 1, 1]


def test_what_was_computed_in_another_way_is_not_reused(
    extract: Callable[..., standard_artifacts.Examples], tmp_path: Path
) -> None:
    """At another cut, with other weights, by another version of this project, or gone."""
    gone, other, versions = (standard_artifacts.Examples() for _ in range(3))
    gone.uri = str(tmp_path / "gone")
    for artifact, key, value in ((other, "weights_sha256", "other"), (versions, "schema_version", 0)):
        artifact.uri = str(tmp_path / key)
        shutil.copytree(extract().uri, artifact.uri)
        described = Path(artifact.uri, "features.json")
        described.write_text(json.dumps(json.loads(described.read_text()) | {key: value}))
    earlier = (extract(cut="mixed0"), other, versions, gone)
    assert counts(extract(earlier=earlier, train=(0, 1))) == (2 + KEPT, 0)


def test_other_code_that_does_the_same_reuses_everything(
    data: Data, extract: Callable[..., standard_artifacts.Examples], through_the_network: list[int]
) -> None:
    first = extract()
    through_the_network.clear()
    assert counts(extract(earlier=(first,), code="a private function has another name")) == (0, TRAIN + KEPT)
    assert through_the_network == [PROBED]


def test_another_way_to_resize_computes_everything_again(
    data: Data, extract: Callable[..., standard_artifacts.Examples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bicubic(original=tf.raw_ops.ScaleAndTranslate, **options: object) -> tf.Tensor:
        return original(**options | {"kernel_type": "keyscubic"})

    first = extract(outputs=WHOLE)
    with monkeypatch.context() as patched:
        patched.setattr(tf.raw_ops, "ScaleAndTranslate", bicubic)
        # Nothing in these images is transparent, but the decoder of the other settings has been traced already.
        training_data.run_transform(data.records("train"), tmp_path / "transform", SIZE, transparent="black")
    monkeypatch.setattr(data.transform, "uri", str(tmp_path / "transform"))
    assert counts(extract(outputs=WHOLE, earlier=(first,), code="bicubic")) == (TRAIN + KEPT, 0)


VARIANTS = Variants(AugmentationConfig(flip=True, crop=0.2, brightness=0.2, views=3), seed=5)


def test_views_are_computed_once_per_training_image_and_evaluation_images_are_plain(
    extract: Callable[..., standard_artifacts.Examples], data: Data, through_the_network: list[int]
) -> None:
    plain = extract()
    through_the_network.clear()
    features = extract(variants=VARIANTS, earlier=(plain,))
    assert sum(through_the_network) == 2 * PROBED + 3 * TRAIN
    assert counts(features) == (TRAIN, KEPT)
    assert read(features, "eval").keys() == read(plain, "eval").keys()
    for name, (values, _) in read(features, "eval").items():
        np.testing.assert_array_equal(values, read(plain, "eval")[name][0])

    source = inputs.find([f"{features.uri}/Split-train/*"], data.transform.uri)
    assert source.features is not None and source.features.views == 3
    views, unvaried = stored_views(features), read(plain, "train")
    for name, of_image in views.items():
        assert of_image.shape == (3, 288)
        assert len({view.tobytes() for view in of_image}) == 3
        assert not (of_image == unvaried[name][0]).all(-1).any()

    seen: dict[bytes, set[int]] = {}
    names = {view.tobytes(): (name, i) for name, of_image in views.items() for i, view in enumerate(of_image)}
    for batch, _ in inputs.training_input(source, TRAIN, seed=1)().take(12).as_numpy_iterator():
        for row in batch["features"]:
            name, view = names[row.tobytes()]
            seen.setdefault(name, set()).add(view)
    assert set(seen) == set(views)
    assert sum(len(drawn) for drawn in seen.values()) > 2.5 * TRAIN  # of 3 a picture, in 12 epochs
    with pytest.raises(ValueError, match="augmented views; only training reads these"):
        inputs.evaluation_input(source, 4)


def stored_views(features: standard_artifacts.Examples) -> dict[bytes, np.ndarray]:
    found = {}
    for path in sorted(Path(features.uri, "Split-train").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            views = [np.frombuffer(value, "<f4") for value in feature["features"].bytes_list.value]
            found[feature["image/sha256"].bytes_list.value[0]] = np.stack(views)
    return found


def test_views_are_reused_and_follow_from_picture_and_seed_alone(
    extract: Callable[..., standard_artifacts.Examples],
) -> None:
    first = extract(variants=VARIANTS, earlier=(extract(),))
    again = extract(variants=VARIANTS, earlier=(first,), train=(3, 1, 400))
    assert counts(again) == (1, 2 + KEPT)
    afresh = stored_views(extract(variants=VARIANTS, batch_size=3, train=(3, 1, 400)))
    for name, views in stored_views(again).items():
        np.testing.assert_allclose(views, afresh[name], rtol=1e-4, atol=1e-5 * np.abs(views).max())
