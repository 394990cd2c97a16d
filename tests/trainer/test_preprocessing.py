import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tests.trainer import training_data
from tests.trainer.training_data import decoded
from trainer import preprocessing
from trainer.images import decoding

SIZE = training_data.SIZE


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient() -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, 120), np.linspace(0, 255, 90))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *(("L", "JPEG"), ("RGB", "JPEG"), ("P", "GIF"), ("RGB", "BMP")),
    ],
)
def test_every_color_mode_becomes_rgb_in_minus_one_to_one(mode: str, kind: str) -> None:
    image = gradient().convert(mode)
    pixels = decoded([encoded(image, kind)])
    assert pixels.shape == (1, SIZE, SIZE, 3)
    assert pixels.dtype == np.float32
    assert pixels.min() >= -1.0
    assert pixels.max() <= 1.0
    wanted = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
    assert np.abs(pixels[0] - wanted).mean() < 0.02


def test_large_images_are_averaged_not_sampled() -> None:
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decoded([encoded(Image.fromarray(stripes), "PNG")])
    assert np.abs(pixels).max() < 0.05


def photo(width: int, height: int, **options: object) -> bytes:
    """A JPEG with structure of every size, and noise."""
    dice = np.random.default_rng(0)
    coarse = Image.fromarray(dice.integers(0, 256, (9, 12, 3), np.uint8)).resize((width, height))
    pixels = np.asarray(coarse, int) + dice.integers(-20, 21, (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return encoded(image.convert(str(options.pop("mode", "RGB"))), "JPEG", quality=90, **options)


def sides_decoded(data: bytes, size: int) -> tuple[int, int]:
    """Width and height at which `data` reaches the resizing: they follow from the graph that ran."""
    sides = []
    resize = tf.raw_ops.ScaleAndTranslate

    def spy(images: tf.Tensor, **options: object) -> tf.Tensor:
        with tf.control_dependencies(
            [tf.py_function(lambda shape: sides.append(shape.numpy()), [tf.shape(images)], [])]
        ):
            return resize(images=tf.identity(images), **options)

    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default(), tf.compat.v1.Session() as session:
        patch.setattr(tf.raw_ops, "ScaleAndTranslate", spy)
        session.run(decoding.decode(tf.constant([data]), size))
    return int(sides[0][2]), int(sides[0][1])


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((8 * 2 * SIZE, 8 * 2 * SIZE), 8),
        ((8 * 2 * SIZE + 40, 8 * 2 * SIZE - 1), 4),
        ((4 * 2 * SIZE + 3, 900), 4),
        ((4 * 2 * SIZE - 1, 900), 2),
        ((2 * 2 * SIZE - 1, 900), 1),
        ((3000, SIZE - 1), 1),
    ],
)
def test_a_large_jpeg_keeps_twice_the_networks_size_a_side(size: tuple[int, int], ratio: int) -> None:
    assert sides_decoded(photo(*size), SIZE) == tuple(-(-side // ratio) for side in size)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": "4:4:4"},
        {"mode": "L"},
        {"mode": "CMYK"},
        *({"orientation": value} for value in (3, 6, 8)),
    ],
    ids=str,
)
def test_a_jpeg_decoded_at_a_fraction_is_what_its_pixels_average_to(options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = options.get("orientation", 1)
    rest = {name: value for name, value in options.items() if name != "orientation"}
    data = photo(1210, 1003, exif=exif, **rest)
    whole = encoded(Image.fromarray(decoding.decode_upright(tf.constant(data)).numpy()), "PNG")

    difference = np.abs(decoded([data])[0] - decoded([whole])[0]) * 127.5

    assert difference.mean() < 1.5
    assert difference.max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(16 * SIZE + 1, 16 * SIZE + 1), (16 * SIZE + 7, 8 * SIZE + 1)])
def test_no_pixel_moves_where_a_fraction_does_not_divide_the_size(width: int, height: int, orientation: int) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (height // 30, width // 30, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    detailed = Image.fromarray(squares).resize((width, height), Image.Resampling.BICUBIC)
    data = encoded(detailed, "JPEG", quality=95, exif=exif)
    whole = encoded(Image.fromarray(decoding.decode_upright(tf.constant(data)).numpy()), "PNG")

    difference = np.abs(decoded([data])[0] - decoded([whole])[0]) * 127.5

    assert difference.mean() < 2
    assert difference[-4:].mean() < 2
    assert difference[:, -4:].mean() < 2


def test_animations_give_their_first_frame() -> None:
    frames = [gradient(), ImageOps.invert(gradient())]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(decoded([animated])[0] - decoded([encoded(frames[0], "GIF")])[0]).mean() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big_endian", [False, True])
def test_exif_orientation_is_undone_as_pillow_undoes_it(orientation: int, big_endian: bool) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"  # an entry before the orientation
    exif[0x0112] = orientation
    if big_endian:
        exif.endian = ">"
    rotated = encoded(gradient(), "JPEG", exif=exif, quality=95)
    plain = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(rotated))), "JPEG", quality=95)
    assert np.abs(decoded([rotated])[0] - decoded([plain])[0]).mean() < 0.03


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x2a\0\0\0\0\0\0\0",
    ],
)
def test_malformed_exif_counts_as_upright(exif: bytes) -> None:
    plain = encoded(gradient(), "JPEG", quality=95)
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    np.testing.assert_array_equal(decoded([plain[:2] + segment + plain[2:]]), decoded([plain]))


def test_photos_in_all_orientations_come_out_the_same(shared: Path) -> None:
    files = sorted((shared / "data" / "odd_images" / "exif").glob("Landscape_*.jpg"))
    images = decoded([f.read_bytes() for f in files])
    assert all(np.abs(image - images[1]).mean() < 0.02 for image in images)


def test_classes_are_sorted_by_name(transform_directory: Path) -> None:
    assert preprocessing.class_names(str(transform_directory)) == ["blue", "green", "red"]


def test_a_split_without_images_has_a_graph_nonetheless(tmp_path: Path) -> None:
    training_data.run_transform([], tmp_path)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        records = tf.constant([training_data.raw_example(training_data.image("red", 1), "red")])
        outputs = preprocessing.transform_examples(str(tmp_path), records)
        session.run(tf.compat.v1.tables_initializer())
        assert session.run(outputs["label_xf"]).tolist() == [-1]


def test_saved_graph_gives_images_and_labels(transform_directory: Path) -> None:
    image = training_data.image("red", 1)
    records = [training_data.raw_example(image, label) for label in ("red", "blue", "purple", None)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        outputs = preprocessing.transform_examples(str(transform_directory), tf.constant(records))
        session.run(tf.compat.v1.tables_initializer())
        values = session.run(outputs)
    assert values["label_xf"].tolist() == [2, 0, -1, -1]
    np.testing.assert_array_equal(values["image"], decoded([image] * 4))


def test_label_is_read_without_decoding_the_image(transform_directory: Path) -> None:
    broken = training_data.raw_example(b"no image", "green")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        outputs = preprocessing.transform_examples(str(transform_directory), tf.constant([broken]))
        session.run(tf.compat.v1.tables_initializer())
        assert session.run(outputs["label_xf"]).tolist() == [1]
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(outputs["image"])
