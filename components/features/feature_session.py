"""The frozen prefix of the network as a TensorFlow session: raw tf.Examples in, features out, as fast as the CPU can.

The network is folded, and uses bfloat16 if the CPU supports it, which halves the remaining time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from components.features.probe import probe
from core.artifacts.features import UNVARIED, Variants
from core.errors import InputError
from core.examples import SHA256
from trainer import preprocessing
from trainer.images import augmentation as augmentations
from trainer.network import backbone

MAX_BFLOAT16_ERROR = 0.05
"""Relative L2 distance from float32's features up to which bfloat16's are accepted.

Measured on 500 flower photos, ImageNet's weights, pooled mixed10 at 299 pixels: bfloat16 is 2 % off; saving the photo
again as JPEG of quality 95 changes the features by 17 %, cropping one row of pixels by 10 %. A linear classifier
trained on bfloat16's features and tested on float32's is right 84.7 % of the time, one trained on float32's 84.5 %.
"""

_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


@dataclasses.dataclass(frozen=True)
class Prefix:
    """Which features to compute; `cut`, `outputs` and `variants` are as in `core.artifacts.features`."""

    transform_directory: str
    backbone_directory: str
    cut: str
    outputs: tuple[str, ...]
    variants: Variants = UNVARIED


class FeatureSession:
    """A session that computes features of the given `shape` per image; safe to share between threads."""

    def __init__(self, prefix: Prefix, bfloat16: bool) -> None:
        """Builds the graph and loads the weights; with `bfloat16`, convolutions multiply in it and add in float32."""
        options = tf.compat.v1.ConfigProto()
        rewrites = options.graph_options.rewrite_options
        if bfloat16:  # For this session; `tf.config.optimizer` would set it for the whole process.
            rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
        elif not tf.config.list_physical_devices("GPU"):  # takes a second, and gains nothing on a CPU
            rewrites.disable_meta_optimizer = True
        with tf.Graph().as_default() as graph:
            self._serialized = tf.compat.v1.placeholder(tf.string, [None])
            transformed = preprocessing.transform_examples(prefix.transform_directory, self._serialized)
            hashes = tf.io.parse_example(self._serialized, {SHA256: tf.io.FixedLenFeature([], tf.string)})[SHA256]
            images = transformed[preprocessing.IMAGE]
            self._view = tf.compat.v1.placeholder(tf.int64, [])
            if prefix.variants.augmentation is not None:
                seeds = augmentations.view_seeds(hashes, prefix.variants.seed, self._view)
                varied = augmentations.augment(images, seeds, prefix.variants.augmentation)
                images = tf.where(self._view >= 0, varied, images)
            self._features = backbone.frozen_prefix(images, prefix.cut, *prefix.outputs)
            self._identity = transformed[preprocessing.LABEL], hashes
            self.shape = tuple(int(side) for side in self._features.shape[1:])
            self.image_size = int(images.shape[1])
            self._session = tf.compat.v1.Session(graph=graph, config=options)
            self._session.run(tf.compat.v1.tables_initializer())
            backbone.restore(self._session, prefix.backbone_directory)

    def features(self, serialized: Sequence[bytes], view: int = -1) -> np.ndarray:
        """The features of n raw tf.Examples, float32 [n, *shape]; each `view` from 0 on is a different variant."""
        return self._session.run(self._features, {self._serialized: serialized, self._view: view})

    def identify(self, serialized: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """`label_xf` (int64 [n]) and hashes (bytes [n]) of n raw tf.Examples; decodes no image."""
        return self._session.run(self._identity, {self._serialized: serialized})

    def close(self) -> None:
        """Frees the session's memory; it cannot be used any more."""
        self._session.close()


class Sessions(NamedTuple):
    """A session for training's features, and one that computes in float32, like the exported model."""

    fast: FeatureSession
    exact: FeatureSession

    @classmethod
    def open(cls, prefix: Prefix, bfloat16: bool) -> Sessions:
        """Opens the sessions; without `bfloat16` both are the same."""
        exact = FeatureSession(prefix, bfloat16=False)
        return cls(FeatureSession(prefix, bfloat16=True) if bfloat16 else exact, exact)

    def close(self) -> None:
        """Frees the sessions' memory; they cannot be used any more."""
        self.fast.close()
        self.exact.close()


class Choice(NamedTuple):
    """How features are to be computed.

    Attributes:
        sessions: one for training's features, one for float32; they may be the same.
        error: bfloat16's relative L2 distance from float32, if it was measured.
        probe: float32 features of the built-in images; see `components.features.probe`.
        probe_of_views: the same for a variant of each; empty without variants.
    """

    sessions: Sessions
    bfloat16: bool
    error: float | None
    reason: str
    probe: bytes
    probe_of_views: bytes


def choose_sessions(prefix: Prefix, setting: str, sample: Sequence[bytes]) -> Choice:
    """Decides between float32 and bfloat16 by trying both on a few images.

    Args:
        setting: `auto` uses bfloat16 if the CPU supports it and the features agree; `on` insists on it; `off`.

    Raises:
        InputError: `on`, but the CPU lacks bfloat16 or the features are more than `MAX_BFLOAT16_ERROR` off.
    """
    if setting == "off":
        reason = "runtime.bfloat16 is off"
    elif not sample:
        reason = "there are no images to try it on"
    elif not cpu_has_bfloat16():
        reason = "this CPU has neither AVX512_BF16 nor AMX"
    else:
        reason = ""
    sessions = Sessions.open(prefix, bfloat16=not reason)
    exact = sessions.exact
    probes = (
        probe(exact.image_size, exact.features),
        probe(exact.image_size, lambda records: exact.features(records, 1)) if prefix.variants.views else b"",
    )
    error = None
    if not reason:
        error = relative_error(sessions.fast.features(sample), exact.features(sample))
        if error <= MAX_BFLOAT16_ERROR:
            reason = f"it is {error:.1%} off float32, at most {MAX_BFLOAT16_ERROR:.0%}"
            return Choice(sessions, True, error, reason, *probes)
        sessions.fast.close()
        reason = f"it is {error:.1%} off float32 on {len(sample)} images, more than {MAX_BFLOAT16_ERROR:.0%}"
    if setting == "on":
        raise InputError(f"runtime.bfloat16 is on, but {reason}. Set it to auto or off.")
    return Choice(Sessions(exact, exact), False, error, reason, *probes)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; oneDNN's emulation is slower than float32. Linux only."""
    info = Path("/proc/cpuinfo")
    return info.exists() and any(flag in info.read_text().split() for flag in _CPU_FLAGS)


def relative_error(values: np.ndarray, exact: np.ndarray) -> float:
    """|values - exact| / |exact|, over the whole batch (Frobenius norm); infinite if that is not finite."""
    wanted = exact.astype(np.float64)
    distance = float(np.linalg.norm(values.astype(np.float64) - wanted))
    size = float(np.linalg.norm(wanted))
    return distance / size if size > 0 and np.isfinite(distance) else float("inf")
