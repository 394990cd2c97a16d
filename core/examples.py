"""The features of the tf.Examples that ImageExampleGen writes; `core.slices` names those that slices read."""

IMAGE = "image/encoded"  # the image file's bytes
FORMAT, WIDTH, HEIGHT = "image/format", "image/width", "image/height"
SHA256 = "image/sha256"  # of the original file, hexadecimal
PATH = "image/path"  # of the file, relative to the data folder
LABEL = "label"


def statistic(name: str) -> str:
    """The feature that holds one of the image's statistics, such as `brightness`."""
    return f"image/{name}"
