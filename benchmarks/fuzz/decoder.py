"""Images that an exported model decodes: each in one request with a good one, which it may not spoil."""

from __future__ import annotations

import random
import zlib

import numpy as np

from benchmarks.fuzz import images
from benchmarks.fuzz.mutations import mutated
from benchmarks.fuzz.target import Target, check_message, model_folder, scratch_folder
from components.serving.served_model import ServedModel, errors_of
from core import signatures

_COMPARED = 8
"""The predictions of one request in so many are compared; of the others only the errors are asked for: faster."""


class Decoder(Target):
    """`serving_images`; the good image's prediction is the one it gets beside itself, but for rounding (1e-6)."""

    name = "decoder"

    def __init__(self) -> None:
        self._folder = scratch_folder()
        self._model = ServedModel(model_folder(self._folder.name))
        ((self._input, _),) = self._model.signatures[signatures.IMAGES].inputs.items()
        self._seeds = images.served()
        self._wanted = self._ask([self._seeds[0]] * 2)["probabilities"][0]

    def close(self) -> None:
        self._model.close()
        self._folder.cleanup()

    def seeds(self) -> list[bytes]:
        return images.files()  # those that it does not read, too

    def make(self, chance: random.Random) -> bytes:
        return images.changed(chance) if chance.random() < 0.2 else mutated(self._seeds, chance)

    def attempt(self, data: bytes) -> str:
        files, compared = [data, self._seeds[0]], zlib.crc32(data) % _COMPARED == 0
        response = self._ask(files) if compared else self._ask(files, signatures.ERROR)
        error, of_good = errors_of(response)
        assert not of_good, f"the good image was not read: {of_good}"
        if compared:
            # But for rounding: a matrix's last rows may go through other kernels than its first.
            np.testing.assert_allclose(response["probabilities"][1], self._wanted, rtol=0, atol=1e-6)
            assert np.isfinite(response["probabilities"]).all()
        if error:
            check_message(error)
        return error or "answered"

    def _ask(self, files: list[bytes], *outputs: str) -> dict[str, np.ndarray]:
        return self._model.run(signatures.IMAGES, {self._input: np.array(files, dtype=object)}, outputs)
