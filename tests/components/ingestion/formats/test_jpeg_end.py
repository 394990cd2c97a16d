import io
import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.ingestion.formats import jpeg_end
from components.ingestion.image_reading import RejectedError, for_model, read_image
from tests.components.conftest import detailed, encoded
from tests.trainer.images import bad_images
from trainer.images import decoding

PHOTO = detailed(3)
KINDS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "gray": {},
    "CMYK": {},
    "one scan a component": {},
    "restarts": {"restart_marker_blocks": 3},
}


def jpeg(name: str) -> bytes:
    mode = {"gray": "L", "CMYK": "CMYK"}.get(name, "RGB")
    return encoded(PHOTO.convert(mode), "JPEG", quality=80, **KINDS[name])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_is_read_and_remarked(name: str, missing: int) -> None:
    data = jpeg(name)

    image = read_image(data[:-missing])

    assert image.encoded == data == for_model(data[:-missing])
    assert image.oddities == {"no_end": 1}
    assert image.pixels == read_image(data).pixels
    assert read_image(data).oddities == {}


@pytest.mark.parametrize("name", KINDS)
def test_one_that_lacks_more_is_rejected(name: str) -> None:
    """Wherever it is cut off, at the ends of its scans too."""
    data = jpeg(name)
    ends = [place for place in range(len(data) - 2) if data[place] == 0xFF and data[place + 1] in (0xDA, 0xC4, 0xDD)]
    dice = random.Random(1)
    cuts = [*ends, *(dice.randrange(2, len(data) - 4) for _ in range(40)), *range(len(data) - 12, len(data) - 3)]
    for cut in cuts:
        if jpeg_end.with_end(data[:cut]) is not None:
            np.testing.assert_array_equal(pixels(jpeg_end.with_end(data[:cut]) or b""), pixels(data))
            assert cut >= len(data) - 4, cut


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_last_byte_of_the_last_block_is_missed() -> None:
    data = jpeg("baseline")
    for cut in range(3, 9):
        with pytest.raises(RejectedError, match="truncated or corrupt"):
            read_image(data[:-cut])


def test_what_follows_the_end_is_ignored_as_ever() -> None:
    data = jpeg("baseline")
    for behind in (b"\0" * 1000, b"words", data, b"\xff"):
        image = read_image(data + behind)
        assert image.encoded == data + behind
        assert image.oddities == {}
        assert image.pixels == read_image(data).pixels


def test_tensorflow_sees_the_same() -> None:
    whole = decoding.decode_upright(tf.constant(jpeg("progressive"))).numpy()
    np.testing.assert_array_equal(decoding.decode_upright(tf.constant(for_model(jpeg("progressive")[:-2]))), whole)


def test_other_files_and_expensive_ones_get_no_end() -> None:
    for data in (b"", encoded(PHOTO)[:-2], b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff"):
        assert jpeg_end.with_end(data) is None
    with pytest.raises(RejectedError, match="more than 64 scans"):
        read_image(bad_images.jpeg_of_scans(64, 200)[:-2])
