"""The class names and preprocessing that a TensorFlow Lite file carries.

Both are in a ZIP archive appended to the file, where TensorFlow Lite expects a model's associated files
(https://www.tensorflow.org/lite/models/convert/metadata): the interpreter ignores it, and `unzip int8.tflite` reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile

import msgspec

from core import atomic_io
from core.checksums import DamagedModelError
from core.image_limits import ImageLimits
from core.settings.converter import to_dict

_LABELS, _PREPROCESSING = "labels.txt", "preprocessing.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # of the files in the archive: equal models give equal bytes


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From an image to `pixels`, float32 [1, image_size, image_size, 3]; docs/edge.md has the code.

    Attributes:
        channels: their order.
        resize: how an upright image of any shape is resized to a square of `image_size`.
        scale: factor for values from 0 to 255, to which `offset` is then added.
        limits: of the images it was tested with, and what transparent pixels become.
        model_bytes: size of the file without the archive.
        model_sha256: of these bytes.
    """

    image_size: int
    limits: ImageLimits
    model_bytes: int
    model_sha256: str
    channels: str = "RGB"
    resize: str = "bilinear, antialiased"
    scale: float = 1 / 127.5
    offset: float = -1.0


def with_archive(model: bytes, classes: list[str], image_size: int, limits: ImageLimits) -> bytes:
    """A converted model with everything needed to use it."""
    preprocessing = Preprocessing(image_size, limits, len(model), hashlib.sha256(model).hexdigest())
    files = {
        _LABELS: "".join(f"{name}\n" for name in classes).encode(),
        _PREPROCESSING: msgspec.json.format(msgspec.json.encode(to_dict(preprocessing)), indent=2),
    }
    target = io.BytesIO()
    target.write(model)
    with zipfile.ZipFile(target, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return target.getvalue()


def read(path: str) -> tuple[bytes, list[str], Preprocessing]:
    """A file's model without the archive, its class names, and its preprocessing.

    Raises:
        DamagedModelError: this project did not write it, or it has changed.
        OSError: it cannot be read; tf.errors.OpError for a remote one.
    """
    with atomic_io.open_file(path, "rb") as file:
        content = file.read()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            classes = archive.read(_LABELS).decode().removesuffix("\n").split("\n")
            preprocessing = msgspec.json.decode(archive.read(_PREPROCESSING), type=Preprocessing)
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, msgspec.DecodeError, NotImplementedError) as error:
        raise DamagedModelError(
            f"{path} has no {_LABELS} and {_PREPROCESSING} appended, or they are damaged ({error}): this pipeline did "
            "not convert it, or it was cut short"
        ) from error
    model = content[: preprocessing.model_bytes]
    if hashlib.sha256(model).hexdigest() != preprocessing.model_sha256:
        raise DamagedModelError(f"{path} is damaged: its checksum is not the one in its {_PREPROCESSING}")
    return model, classes, preprocessing
