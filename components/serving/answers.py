"""What each image of a request got, whichever method and signature gave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from components.serving.model_api import Call
from core import signatures

_LABEL = "label"
_UNREAD = "the image could not be read"


class Answer(NamedTuple):
    """As `core.artifacts.request_log.LoggedImage`; `image` is encoded, as it was sent."""

    image: bytes
    label: str
    probability: float
    probabilities: dict[str, float]
    error: str
    reason: str
    novelty: float | None


def answers(call: Call) -> Iterator[Answer]:
    """One for each image, if the signature says what is in it, and for as much of that as was asked for."""
    outputs = dict(call.outputs)
    if "scores" in outputs:  # Classify has no room for more than scores; what could not be read has none above 0
        outputs = _of_scores(outputs)
    if _LABEL not in outputs:
        return
    names, probabilities = outputs.get("classes"), outputs.get("probabilities")
    for row, (image, label) in enumerate(zip(call.images, outputs[_LABEL], strict=False)):
        of_classes = {}
        if names is not None and probabilities is not None:
            pairs = zip(names[row], probabilities[row].tolist(), strict=True)
            of_classes = {name.decode(): round(p, 6) for name, p in pairs}
        yield Answer(
            image,
            label.decode(),
            _number(outputs, "probability", row) or 0.0,
            of_classes,
            _text(outputs, signatures.ERROR, row),
            _text(outputs, "reason", row),
            _number(outputs, "novelty", row),
        )


def _of_scores(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names, scores = outputs["classes"], outputs["scores"]
    read = scores.any(axis=1)
    best = scores.argmax(axis=1)[:, None]
    labels = np.where(read, np.take_along_axis(names, best, 1)[:, 0], b"")
    return {
        "classes": names,
        "probabilities": scores,
        _LABEL: labels,
        "probability": scores.max(axis=1),
        signatures.ERROR: np.where(read, b"", _UNREAD.encode()).astype(object),
    }


def _text(outputs: Mapping[str, np.ndarray], name: str, row: int) -> str:
    return outputs[name][row].decode() if name in outputs else ""


def _number(outputs: Mapping[str, np.ndarray], name: str, row: int) -> float | None:
    return round(float(outputs[name][row]), 6) if name in outputs else None
