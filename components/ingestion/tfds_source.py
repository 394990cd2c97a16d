"""A data set of TensorFlow Datasets by its name: downloaded and prepared once, then read as any folder of TFRecords."""

from __future__ import annotations

from core.errors import InputError


def prepare(name: str, data_dir: str | None = None) -> str:
    """Has TensorFlow Datasets prepare a data set, where it has not, and returns the folder.

    Args:
        name: as `tensorflow_datasets.builder` takes it: `tf_flowers`, `tf_flowers:3.0.1`, `name/config`.
        data_dir: where it is kept; None: where that package keeps all (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`).

    Raises:
        InputError: the package is not installed, it knows no such data set, or it cannot be had.
    """
    try:
        import tensorflow_datasets as tfds  # an extra; takes seconds
        from tensorflow_datasets.core.registered import DatasetNotFoundError
    except ImportError as error:
        raise InputError(f"data.images: tfds:{name} needs the extra `tfds`: uv sync --extra tfds") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except DatasetNotFoundError as error:
        raise InputError(f"data.images: TensorFlow Datasets knows no {name!r}: {str(error).splitlines()[0]}") from error
    try:
        builder.download_and_prepare(file_format=tfds.core.FileFormat.TFRECORD)
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        raise InputError(f"data.images: tfds:{name} cannot be downloaded to {builder.data_path}: {error}") from error
    return str(builder.data_path)
