"""A data set of TensorFlow Datasets that needs no download; importing this registers it as `tiny_flowers`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tests.components.conftest import picture

COUNTS = {"train": 20, "test": 6}


class TinyFlowers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        names = ["daisy", "roses"]
        features = tfds.features.FeaturesDict(
            {"photo": tfds.features.Image(), "kind": tfds.features.ClassLabel(names=names), "number": np.int64}
        )
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("photo", "kind"))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(COUNTS[split]):
            pixels = np.asarray(picture(100 * len(split) + i))
            yield i, {"photo": pixels, "kind": i % 2, "number": i}
