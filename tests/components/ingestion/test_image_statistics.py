"""Statistics of pictures whose values are known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.ingestion.image_statistics import STATISTICS, Reduced, measure, reduced
from tests.components.conftest import picture


def plain(color: tuple[int, int, int], size: tuple[int, int] = (100, 50)) -> Image.Image:
    return Image.new("RGB", size, color)


def measured(image: Image.Image) -> dict[str, float]:
    return measure(Reduced(image.convert("RGB"), image.size, image.width * image.height))


def test_a_plain_picture_has_no_contrast_nor_sharpness() -> None:
    found = measured(plain((255, 255, 255)))

    assert set(found) == set(STATISTICS)
    assert found == pytest.approx(
        {"resolution": 0.005, "brightness": 1, "contrast": 0, "sharpness": 0, "colorfulness": 0}
    )


def test_a_blurred_picture_is_less_sharp_and_has_less_contrast() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    sharp, blurred = measured(noise), measured(noise.filter(ImageFilter.GaussianBlur(2)))

    assert blurred["sharpness"] < 0.1 * sharp["sharpness"]
    assert blurred["contrast"] < sharp["contrast"]
    assert blurred["brightness"] == pytest.approx(sharp["brightness"], abs=0.02)


def test_sharpness_is_that_of_the_laplacian() -> None:
    pixels = np.zeros((5, 5), np.uint8)
    pixels[2, 2] = 100

    assert measured(Image.fromarray(pixels))["sharpness"] == pytest.approx(np.var([-400, *[100] * 4, *[0] * 4]))


def test_colors_count_and_gray_has_none() -> None:
    colored = picture(3, 200, 160)

    assert measured(colored)["colorfulness"] > 10
    assert measured(colored.convert("L"))["colorfulness"] == 0
    assert measured(plain((255, 0, 0)))["colorfulness"] == pytest.approx(0.3 * np.hypot(255, 127.5))


def test_the_size_of_a_picture_changes_its_resolution_alone() -> None:
    small = picture(3, 256, 128)
    large = small.resize((1024, 512), Image.Resampling.NEAREST)
    a, b = measured(small), measured(large)

    assert (a.pop("resolution"), b.pop("resolution")) == pytest.approx((0.032768, 0.524288))
    assert a == pytest.approx(b, rel=0.02)


@pytest.mark.parametrize("size", [(1, 1), (2, 900)])
def test_the_smallest_pictures_have_statistics(size: tuple[int, int]) -> None:
    assert all(np.isfinite(value) for value in measured(plain((9, 9, 9), size)).values())


@pytest.mark.parametrize("size", [(1023, 700), (1024, 1), (4000, 3000), (700, 3001)])
def test_a_large_picture_is_described_by_the_means_of_its_squares(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 90, (*size[::-1], 3), np.uint8)
    pixels = np.asarray(picture(3, 64, 48).resize(size)) // 2 + noise

    small = reduced(pixels)

    assert max(small.image.size) >= 512
    side = max(size) // 512
    np.testing.assert_array_equal(np.asarray(small.image), np.asarray(Image.fromarray(pixels).reduce(side)))
    whole = measured(Image.fromarray(pixels))
    assert measure(small) == pytest.approx(whole, rel=1e-6)
