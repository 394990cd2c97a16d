"""Statistics of pictures whose values are known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.ingestion.image_statistics import STATISTICS, measure
from tests.components.conftest import picture


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (100, 50)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_a_plain_picture_has_no_contrast_nor_sharpness() -> None:
    found = measure(plain((255, 255, 255)))

    assert set(found) == set(STATISTICS)
    assert found == pytest.approx(
        {"resolution": 0.005, "brightness": 1, "contrast": 0, "sharpness": 0, "colorfulness": 0}
    )


def test_a_blurred_picture_is_less_sharp_and_has_less_contrast() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    sharp, blurred = measure(noise), measure(noise.filter(ImageFilter.GaussianBlur(2)))

    assert blurred["sharpness"] < 0.1 * sharp["sharpness"]
    assert blurred["contrast"] < sharp["contrast"]
    assert blurred["brightness"] == pytest.approx(sharp["brightness"], abs=0.02)


def test_sharpness_is_that_of_the_laplacian() -> None:
    pixels = np.zeros((5, 5), np.uint8)
    pixels[2, 2] = 100

    assert measure(Image.fromarray(pixels))["sharpness"] == pytest.approx(np.var([-400, *[100] * 4, *[0] * 4]))


def test_colours_count_and_grey_has_none() -> None:
    coloured = picture(3, 200, 160)

    assert measure(coloured)["colorfulness"] > 10
    assert measure(coloured.convert("L"))["colorfulness"] == 0
    assert measure(plain((255, 0, 0)))["colorfulness"] == pytest.approx(0.3 * np.hypot(255, 127.5))


def test_the_size_of_a_picture_changes_its_resolution_alone() -> None:
    small = picture(3, 256, 128)
    large = small.resize((1024, 512), Image.Resampling.NEAREST)
    a, b = measure(small), measure(large)

    assert (a.pop("resolution"), b.pop("resolution")) == pytest.approx((0.032768, 0.524288))
    assert a == pytest.approx(b, rel=0.02)


@pytest.mark.parametrize("size", [(1, 1), (2, 900)])
def test_the_smallest_pictures_have_statistics(size: tuple[int, int]) -> None:
    assert all(np.isfinite(value) for value in measure(plain((9, 9, 9), size)).values())
