"""The features of images at the cut, which FeatureExtractor writes and the Trainer and later runs read."""

from __future__ import annotations

import dataclasses

import numpy as np

from core import inception_v3
from core.artifacts.base import Artifact, JsonFile
from core.settings.augmentation import AugmentationConfig

EXTRACTED = Artifact("FeatureExtractor", "features")

FEATURES, LABEL = "features", "label_xf"
"""Features of a record: a little-endian array for the image or for each of its views, and the number of the class. The
hash of the image file is there too, as `core.examples.SHA256`."""

COMPUTED, REUSED = "images_computed", "images_reused"
"""Custom properties: how many images went through the network, and how many have features from an earlier run."""


def features_name(cut: str, *outputs: str) -> str:
    """The name of features at a cut: `mixed8` is a map, `pooled_mixed10` the averages of the `outputs`."""
    return "_".join((cut, *outputs)) if cut == inception_v3.POOLED else cut


@dataclasses.dataclass(frozen=True)
class Variants:
    """How training images are augmented before the network sees them; by default not at all."""

    augmentation: AugmentationConfig | None = None
    seed: int = 0

    @property
    def views(self) -> int:
        """How many variants of an image are computed; 0 means the image itself."""
        return self.augmentation.views or 0 if self.augmentation else 0


UNVARIED = Variants()


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """What FeatureExtractor computes.

    Attributes:
        cut: the place in the network, `pooled` or a block; see `core.rules.features_cut`.
        outputs: the blocks whose averages `pooled` holds, in the network's order.
        batch_size: images computed at a time; bounds the memory and changes values only by rounding.
        bfloat16: `auto`, `on` or `off`.
    """

    cut: str
    outputs: tuple[str, ...]
    batch_size: int
    bfloat16: str
    variants: Variants = UNVARIED


@dataclasses.dataclass(frozen=True)
class SplitFeatures:
    """What may differ between splits.

    Attributes:
        dtype: `float32` or `float16`, little-endian.
        bfloat16: whether convolutions were computed in bfloat16.
        probe: the result of `components.features.probe` for the built-in images.
    """

    variants: Variants
    dtype: str
    bfloat16: bool
    probe: bytes = b""


@dataclasses.dataclass(frozen=True)
class FeatureFormat:
    """How the records of a split store an image.

    Attributes:
        views: how many variants of the image a record holds instead of the image itself; 0 if none.
        columns: start and stop of the columns to use if a record holds the averages of several blocks; None for all.
    """

    cut: str
    shape: tuple[int, ...]
    dtype: str
    views: int = 0
    columns: tuple[int, int] | None = None

    def array(self, value: bytes) -> np.ndarray:
        """The features in a value of a record, float32."""
        whole = np.frombuffer(value, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape).astype(np.float32)
        return whole[slice(*self.columns)] if self.columns else whole


@dataclasses.dataclass(frozen=True)
class Features:
    """What an artifact holds; `cut` and `outputs` are as in `FeatureConfig`.

    Attributes:
        shape: of one image's features.
        image_size: side of the images that the network sees, in pixels.
        bfloat16_error: relative L2 distance of bfloat16 from float32, if it was measured.
    """

    cut: str
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    image_size: int
    weights_sha256: str
    bfloat16_reason: str
    bfloat16_error: float | None
    splits: dict[str, SplitFeatures]

    @property
    def computation(self) -> tuple[object, ...]:
        """What determines an image's features, apart from what may differ between splits."""
        return self.cut, self.outputs, self.image_size, self.weights_sha256

    def format(self, split: str, output: str | None = None) -> FeatureFormat:
        """How to read a split; of several blocks' averages only those of `output`.

        Raises ValueError if `output` is not among the blocks.
        """
        columns = None
        if output and self.cut == inception_v3.POOLED and len(self.outputs) > 1:
            if output not in self.outputs:
                raise ValueError(f"the features are of {', '.join(self.outputs)}, but {output} is wanted")
            widths = {layer.name: layer.channels for layer in inception_v3.layers()}
            start = sum(widths[name] for name in self.outputs[: self.outputs.index(output)])
            columns = start, start + widths[output]
        of_split = self.splits[split]
        return FeatureFormat(self.cut, self.shape, of_split.dtype, of_split.variants.views, columns)


FEATURES_FILE = JsonFile("features.json", Features)
