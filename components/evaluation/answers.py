"""A model's answers for test images: computed from the images, or from stored features that equal its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.features import probe
from components.serving.served_model import ServedModel, errors_of
from core import signatures, tfrecords
from core.artifacts.features import FeatureFormat, Features, features_name


class Answer(NamedTuple):
    """A model's answers for n images.

    Attributes:
        probabilities: of its `classes`, float32 [n, k].
        novelty: float32 [n].
        reasons: why it withholds each label, [n]; empty if it gives one.
    """

    classes: list[str]
    probabilities: np.ndarray
    novelty: np.ndarray
    reasons: list[str]


class Answers(ServedModel):
    """A model that answers for batches of images."""

    def from_images(self, records: Sequence[bytes]) -> Answer:
        """Answers for raw tf.Examples; all zeros for an image that the model cannot read."""
        outputs = self.request(signatures.EXAMPLES, records)
        outputs["probabilities"][[bool(error) for error in errors_of(outputs)]] = 0
        return _answer(outputs)

    def from_features(self, stored: FeatureFormat, values: Sequence[bytes]) -> Answer:
        """Answers for features as their records hold them."""
        (name,) = self.signatures[signatures.FEATURES].inputs
        return _answer(self.run(signatures.FEATURES, {name: np.stack([stored.array(value) for value in values])}))

    def takes(self, features: Features, split: str) -> FeatureFormat | None:
        """How these features of a split are stored, if the model would compute the same from the images; else None.

        That is tested on the built-in images, which go through the model's preprocessing and network.
        """
        signature = self.signatures.get(signatures.FEATURES)
        name = features_name(features.cut, *features.outputs)
        if signature is None or name not in signature.inputs:
            return None
        probed = probe.probe(features.image_size, lambda records: self.fetch(signature.inputs[name].name, records))
        return features.format(split) if probe.agree(probed, features.splits[split].probe) else None

    def pixels(self, images: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """The network's input for image files, float32 [n, S, S, 3]; and which of them can be read, bool [n]."""
        (name,) = self.signatures[signatures.MAPS].inputs
        found = self.run(signatures.MAPS, {name: np.array(images, object)}, (signatures.PIXELS, signatures.ERROR))
        return found[signatures.PIXELS], found[signatures.ERROR] == b""

    def fetch(self, tensor: str, records: Sequence[bytes]) -> np.ndarray:
        """A tensor of the model's graph, for raw tf.Examples."""
        (examples,) = self.signatures[signatures.EXAMPLES].inputs.values()
        return self.session.run(tensor, {examples.name: np.array(list(records), dtype=object)})


def _answer(outputs: Mapping[str, np.ndarray]) -> Answer:
    """Replaces NaN, which ServingCheck refuses, by 0. Raises ValueError if an earlier version exported the model."""
    if signatures.NOVELTY not in outputs:
        raise ValueError(f"it has no output {signatures.NOVELTY}, an earlier version of this project exported it")
    return Answer(
        [tfrecords.text(name) for name in outputs["classes"][0]],
        np.nan_to_num(outputs["probabilities"]),
        np.nan_to_num(outputs[signatures.NOVELTY]),
        [tfrecords.text(reason) for reason in outputs[signatures.REASON]],
    )
