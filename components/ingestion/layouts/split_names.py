"""What people call the splits, in names of folders and files and in a metadata column."""

from __future__ import annotations

import functools
import re

_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset", "trainval"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "eval", "evaluation", "dev", "valset"), "eval"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
_FILLERS = frozenset(("set", "data", "split", "image", "images", "img", "imgs"))


@functools.lru_cache
def split_called(name: str) -> str:
    """The split that a name such as `Training_set` or `val2017` means, `train`, `eval` or `test`; else ""."""
    words = [word for word in _words(name) if word not in _FILLERS]
    return _SPLITS.get(words[0], "") if len(words) == 1 else ""


def split_within(name: str) -> str:
    """The last split that a word in a longer name means, as in `birds_train_00000-of-00001`; else ""."""
    return next((_SPLITS[word] for word in reversed(_words(name)) if word in _SPLITS), "")


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", name.lower()) if word]
