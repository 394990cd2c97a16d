"""The exported model, loaded and asked as a server and as TFMA would."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from core.artifacts import exported_model
from core.artifacts.model_limits import model_limits
from core.image_limits import ImageLimits
from core.settings.training import HeadConfig
from tests.trainer import training_data
from tests.trainer.images import bad_images
from trainer import preprocessing
from trainer.network import backbone, head
from trainer.training import checkpoints

IMAGES = [training_data.image(name, 1000 + i) for i, name in enumerate(("red", "green", "blue", "red"))]
EXAMPLES = [training_data.raw_example(image) for image in IMAGES]


class Served:
    """A SavedModel in a session."""

    def __init__(self, directory: Path) -> None:
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        self.meta = tf.compat.v1.saved_model.load(self.session, ["serve"], str(directory))

    def ask(self, signature: str, requests: list[bytes]) -> dict[str, np.ndarray]:
        described = self.meta.signature_def[signature]
        (receiver,) = described.inputs.values()
        outputs = {name: info.name for name, info in described.outputs.items()}
        return self.session.run(outputs, {receiver.name: requests})


@pytest.fixture(scope="module")
def served(frozen_run: Path) -> Iterator[Served]:
    model = Served(frozen_run / "Format-Serving")
    yield model
    model.session.close()


def test_signatures_are_exactly_the_promised_ones(served: Served) -> None:
    def shape(info: Any) -> tuple[int, str, list[int]]:
        return tf.as_dtype(info.dtype).name, [d.size for d in info.tensor_shape.dim]

    found = {
        name: ({k: shape(v) for k, v in d.inputs.items()}, {k: shape(v) for k, v in d.outputs.items()})
        for name, d in served.meta.signature_def.items()
    }
    answers = {
        "probabilities": ("float32", [-1, 3]),
        "classes": ("string", [-1, 3]),
        "label": ("string", [-1]),
        "probability": ("float32", [-1]),
        "novelty": ("float32", [-1]),
        "reason": ("string", [-1]),
        "error": ("string", [-1]),
    }
    scores = {"classes": ("string", [-1, 3]), "scores": ("float32", [-1, 3])}
    assert found == {
        "serving_default": ({"examples": ("string", [-1])}, answers),
        "serving_images": ({"images": ("string", [-1])}, answers),
        "classify": ({"inputs": ("string", [-1])}, scores),
        "transform_features": ({"examples": ("string", [-1])}, {"label_xf": ("int64", [-1])}),
        "serving_features": (
            {"pooled_mixed10": ("float32", [-1, 2048])},
            {name: answers[name] for name in ("probabilities", "classes", "novelty", "reason")},
        ),
        "embed": (
            {"images": ("string", [-1])},
            {"embedding": ("float32", [-1, 2048]), "error": ("string", [-1])},
        ),
        "pixels": (
            {"pixels": ("float32", [-1, 75, 75, 3])},
            {name: answers[name] for name in ("probabilities", "classes")},
        ),
        "serving_maps": (
            {"images": ("string", [-1])},
            {
                "pixels": ("float32", [-1, 75, 75, 3]),
                "map": ("float32", [-1, 7, 7, 288]),
                "logits": ("float32", [-1, 3]),
                "error": ("string", [-1]),
            },
        ),
    }


def test_features_at_the_cut_get_the_answer_of_their_images(served: Served) -> None:
    definitions = served.meta.signature_def
    (at_cut,) = definitions["serving_features"].inputs.values()
    features = served.session.run(at_cut.name, {definitions["serving_images"].inputs["images"].name: IMAGES})
    by_features, by_image = served.ask("serving_features", features), served.ask("serving_images", IMAGES)
    np.testing.assert_allclose(by_features["probabilities"], by_image["probabilities"], atol=1e-6)
    assert by_features["classes"].tolist() == by_image["classes"].tolist()
    np.testing.assert_allclose(by_features["novelty"], by_image["novelty"], atol=1e-4)
    assert by_features["reason"].tolist() == by_image["reason"].tolist() == [b""] * 4


def test_the_embedding_is_what_the_head_sees(served: Served) -> None:
    definitions = served.meta.signature_def
    (at_cut,) = definitions["serving_features"].inputs.values()
    pooled = served.session.run(at_cut.name, {definitions["embed"].inputs["images"].name: IMAGES})

    answer = served.ask("embed", [*IMAGES, b"no image"])

    np.testing.assert_allclose(answer["embedding"][:4], pooled, rtol=1e-5)
    assert not answer["embedding"][4].any() and [bool(error) for error in answer["error"]] == [False] * 4 + [True]


def test_pixels_as_documented_get_the_answer_of_their_images(served: Served) -> None:
    """As docs/edge.md has it; Pillow rounds what it has resized to whole levels."""
    resized = [Image.open(io.BytesIO(image)).resize((75, 75), Image.Resampling.BILINEAR) for image in IMAGES]
    pixels = np.stack(resized).astype(np.float32) / 127.5 - 1
    definition = served.meta.signature_def["pixels"]
    outputs = {name: info.name for name, info in definition.outputs.items()}
    by_pixels = served.session.run(outputs, {definition.inputs["pixels"].name: pixels})
    by_image = served.ask("serving_images", IMAGES)
    np.testing.assert_allclose(by_pixels["probabilities"], by_image["probabilities"], atol=5e-3)
    assert by_pixels["classes"].tolist() == by_image["classes"].tolist()


def test_directory_holds_the_saved_model_and_nothing_else(frozen_run: Path) -> None:
    directory = frozen_run / "Format-Serving"
    assert sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()) == [
        "assets.extra/SHA256SUMS",
        "assets.extra/batch_norms.data-00000-of-00001",
        "assets.extra/batch_norms.index",
        "assets.extra/image_limits.json",
        "assets.extra/tf_serving_warmup_requests",
        "assets/classes.txt",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert (directory / "assets" / "classes.txt").read_text() == "blue\ngreen\nred\n"
    assert sorted(p.name for p in frozen_run.iterdir()) == ["Format-Serving", "run"]


def test_examples_and_images_get_the_same_answer(served: Served) -> None:
    by_example, by_image = served.ask("serving_default", EXAMPLES), served.ask("serving_images", IMAGES)
    for name in ("probabilities", "classes", "label", "probability", "novelty", "reason"):
        np.testing.assert_array_equal(by_example[name], by_image[name])
    best = by_image["probabilities"].argmax(-1)
    assert by_image["label"].tolist() == [(b"blue", b"green", b"red")[i] for i in best]
    assert by_image["classes"].tolist() == [[b"blue", b"green", b"red"]] * 4
    np.testing.assert_allclose(by_image["probabilities"].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(by_image["probability"], by_image["probabilities"].max(-1))


def test_answer_does_not_depend_on_the_batch(served: Served) -> None:
    together = served.ask("serving_images", IMAGES)["probabilities"]
    alone = np.concatenate([served.ask("serving_images", [p])["probabilities"] for p in IMAGES])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_labels_are_transformed_without_their_images(served: Served) -> None:
    requests = [training_data.raw_example(b"no image", label) for label in ("green", "unseen", None)]
    assert served.ask("transform_features", requests)["label_xf"].tolist() == [1, -1, -1]


@pytest.mark.parametrize("signature", ["serving_images", "serving_default"])
def test_bad_images_get_their_reason_and_the_others_their_answers(served: Served, signature: str) -> None:
    bad = {1: b"", 3: b"no image", 4: IMAGES[0][:-200], 6: bad_images.png(60_000, 60_000, b"")}
    good = dict(zip((0, 2, 5, 7), IMAGES, strict=True))
    batch = [(good | bad)[i] for i in range(8)]
    requests = batch if signature == "serving_images" else [training_data.raw_example(image) for image in batch]

    answer = served.ask(signature, requests)

    assert [bool(error) for error in answer["error"]] == [i in bad for i in range(8)]
    assert b"truncated" in answer["error"][4]
    assert answer["label"][list(bad)].tolist() == [b""] * 4
    assert not answer["probability"][list(bad)].any() and not answer["probabilities"][list(bad)].any()
    assert not answer["novelty"][list(bad)].any() and answer["reason"][list(bad)].tolist() == [b""] * 4
    all_good = served.ask("serving_images", [good.get(i, IMAGES[0]) for i in range(8)])
    for name in ("probabilities", "classes", "label", "probability", "novelty", "reason", "error"):
        np.testing.assert_array_equal(answer[name][list(good)], all_good[name][list(good)])
    alone = np.concatenate([served.ask("serving_images", [p])["probabilities"] for p in good.values()])
    np.testing.assert_allclose(answer["probabilities"][list(good)], alone, atol=1e-5)


def test_the_limit_of_the_settings_is_that_of_the_model(served: Served, frozen_run: Path) -> None:
    within, over = (bad_images.png(1000, height, bytes(126 * height)) for height in (1000, 1001))

    answer = served.ask("serving_images", [within, over])

    assert answer["error"].tolist() == [b"", b"the image has more than 1 million pixels"]
    assert model_limits(str(frozen_run / "Format-Serving")) == ImageLimits(max_megapixels=1)


def test_classification_gives_the_probabilities_as_scores(served: Served) -> None:
    scored, answer = served.ask("classify", EXAMPLES), served.ask("serving_default", EXAMPLES)

    np.testing.assert_array_equal(scored["scores"], answer["probabilities"])
    np.testing.assert_array_equal(scored["classes"], answer["classes"])


@pytest.mark.parametrize("run", ["frozen_run", "suffix_run"])
def test_its_variables_are_those_of_training_with_batch_norm_folded(run: str, request: pytest.FixtureRequest) -> None:
    out = request.getfixturevalue(run)
    trained = backbone.unfolded(str(out / "Format-Serving"))
    best = checkpoints.read(str(out / "run" / "best.ckpt"))
    for name, value in best.items():
        np.testing.assert_allclose(trained[name], value, rtol=2e-7, atol=0, err_msg=name)
    served = checkpoints.read(exported_model.checkpoint(str(out / "Format-Serving")))
    wanted = {name: value for name, value in trained.items() if not name.startswith("InceptionV3/")}
    for number in range(94):
        suffix = f"_{number}" if number else ""
        kernel = trained[f"InceptionV3/conv2d{suffix}/kernel"]
        norm = f"InceptionV3/batch_normalization{suffix}"
        beta, mean, variance = (trained[f"{norm}/{name}"] for name in ("beta", "moving_mean", "moving_variance"))
        scale = 1 / np.sqrt(variance.astype(np.float64) + 1e-3)
        wanted[f"InceptionV3/conv2d{suffix}/kernel"] = kernel * scale
        wanted[f"InceptionV3/conv2d{suffix}/bias"] = beta - mean * scale
    assert served.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(served[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_folding_changes_no_probability(served: Served, frozen_run: Path, transform_directory: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = preprocessing.load_transform(str(transform_directory), preprocessing.IMAGE)(tf.constant(IMAGES))
        maps = backbone.build(images, None, "mixed10").blocks["mixed10"]
        logits, _ = head.build(backbone.pooled(maps), HeadConfig(hidden_units=(16,)), 3, None, None)
        session.run(tf.compat.v1.tables_initializer())
        values = backbone.unfolded(str(frozen_run / "Format-Serving"))
        variables = tf.compat.v1.global_variables()  # all at once: one after the other, they take twenty seconds
        given = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
        session.run([variable.initializer for variable in variables], given)
        unfolded = session.run(tf.nn.softmax(logits))
    np.testing.assert_allclose(served.ask("serving_images", IMAGES)["probabilities"], unfolded, atol=1e-5)
    operations = {operation.type for operation in served.session.graph.get_operations()}
    assert "Conv2D" in operations and not [kind for kind in operations if "BatchNorm" in kind]


def test_served_network_is_the_trained_one_bit_for_bit(
    served: Served, frozen_run: Path, transform_directory: Path, backbone_directory: Path
) -> None:
    """No skew: Transform's graph, the frozen prefix and the head as trained give exactly what is served."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = preprocessing.load_transform(str(transform_directory), preprocessing.IMAGE)(tf.constant(IMAGES))
        features = backbone.frozen_prefix(images, "pooled", "mixed10")
        logits, _ = head.build(features, HeadConfig(hidden_units=(16,)), 3, None, None)
        session.run(tf.compat.v1.tables_initializer())
        backbone.restore(session, str(backbone_directory))
        trained = checkpoints.read(str(frozen_run / "run" / "best.ckpt"))
        for variable in tf.compat.v1.global_variables():
            if variable.op.name in trained:
                variable.load(trained[variable.op.name], session)
        wanted, pixels = session.run([tf.nn.softmax(logits), images])
    np.testing.assert_array_equal(served.ask("serving_images", IMAGES)["probabilities"], wanted)
    np.testing.assert_array_equal(served.session.run("pixels:0", {"images:0": IMAGES}), pixels)


def test_loads_in_tensorflow_2(frozen_run: Path, served: Served) -> None:
    if not tf.executing_eagerly():
        pytest.skip("eager execution is off in this process")
    loaded = tf.saved_model.load(str(frozen_run / "Format-Serving"))
    answer = loaded.signatures["serving_images"](images=tf.constant(IMAGES))
    np.testing.assert_allclose(
        answer["probabilities"].numpy(), served.ask("serving_images", IMAGES)["probabilities"], atol=1e-6
    )


@pytest.mark.slow
def test_tfma_evaluates_it_on_raw_examples_and_a_bad_one_ends_no_run(
    served: Served, frozen_run: Path, tmp_path: Path
) -> None:
    import tensorflow_model_analysis as tfma  # 10 s

    names = training_data.CLASSES * 4
    images = [training_data.image(name, 5000 + i) for i, name in enumerate(names)]
    names, images = [*names, "red"], [*images, images[0][:-200]]
    records = [training_data.raw_example(p, n) for p, n in zip(images, names, strict=True)]
    training_data.write_split(tmp_path, "test", records)
    config = tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                model_type=tfma.TF_GENERIC,
                signature_name="serving_default",
                label_key="label_xf",
                prediction_key="probabilities",
                preprocessing_function_names=["transform_features"],
            )
        ],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["label"])],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount"),
                    tfma.MetricConfig(class_name="SparseCategoricalAccuracy"),
                    tfma.MetricConfig(class_name="SparseCategoricalCrossentropy"),
                ]
            )
        ],
    )
    result = tfma.run_model_analysis(
        eval_shared_model=tfma.default_eval_shared_model(str(frozen_run / "Format-Serving"), eval_config=config),
        eval_config=config,
        data_location=f"{tmp_path}/Split-test/*",
        output_path=str(tmp_path / "evaluation"),
    )
    right = served.ask("serving_images", images)["label"] == [n.encode() for n in names]
    found = {
        slice_key: {name: value["doubleValue"] for name, value in metrics[""][""].items()}
        for slice_key, metrics in result.slicing_metrics
    }
    assert not right[-1] and right[:-1].any()
    assert all(np.isfinite(values.pop("sparse_categorical_crossentropy")) for values in found.values())
    assert found[()] == pytest.approx({"example_count": 13, "sparse_categorical_accuracy": right.mean()})
    for name in training_data.CLASSES:
        of_class = right[[n == name for n in names]]
        wanted = {"example_count": len(of_class), "sparse_categorical_accuracy": of_class.mean()}
        assert found[(("label", name),)] == pytest.approx(wanted)
