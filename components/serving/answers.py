"""The answer for each image of a request, whatever the method and signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from components.serving.model_api import Call
from core import signatures

_LABEL = "label"
_UNREAD = "the image could not be read"


class Answer(NamedTuple):
    """Like `core.artifacts.request_log.LoggedImage`; `image` is as it was sent, b"" if something else was sent."""

    row: int
    image: bytes
    label: str
    probability: float
    error: str
    reason: str
    novelty: float | None


def answers(call: Call) -> Iterator[Answer]:
    """An answer for each image, if the signature classifies, with as much as the client requested."""
    outputs = dict(call.outputs)
    if "scores" in outputs:  # Classify has no room for more than scores; what could not be read has none above 0
        outputs |= _of_scores(outputs["classes"], outputs["scores"])
    labels = outputs.get(_LABEL, ())
    for row, (image, label) in enumerate(zip(call.images or [b""] * len(labels), labels, strict=False)):
        yield Answer(
            row,
            image,
            label.decode(),
            _number(outputs, "probability", row) or 0.0,
            _text(outputs, signatures.ERROR, row),
            _text(outputs, signatures.REASON, row),
            _number(outputs, signatures.NOVELTY, row),
        )


def probabilities(call: Call, row: int) -> dict[str, float]:
    """Of every class, by its name; empty where they were not asked for."""
    values = call.outputs.get("probabilities", call.outputs.get("scores"))
    names = call.outputs.get("classes")
    if values is None or names is None:
        return {}
    return {name.decode(): round(value, 6) for name, value in zip(names[row], values[row].tolist(), strict=True)}


def _of_scores(names: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    read = scores.any(axis=1)
    best = scores.argmax(axis=1)[:, None]
    return {
        _LABEL: np.where(read, np.take_along_axis(names, best, 1)[:, 0], b""),
        "probability": scores.max(axis=1),
        signatures.ERROR: np.where(read, b"", _UNREAD.encode()).astype(object),
    }


def _text(outputs: Mapping[str, np.ndarray], name: str, row: int) -> str:
    return outputs[name][row].decode() if name in outputs else ""


def _number(outputs: Mapping[str, np.ndarray], name: str, row: int) -> float | None:
    return round(float(outputs[name][row]), 6) if name in outputs else None
