"""A process of a training cluster other than the chief: `python -m trainer.task FILE`, with its task in TF_CONFIG.

The chief (TFX's Trainer) writes the file when it begins to train; this waits for it, and calls the same `run_fn`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from types import SimpleNamespace

import tensorflow as tf

from core.errors import InputError
from trainer import run

_WAIT_SECONDS = 1


def main(pattern: str) -> None:
    """Takes part in a training until that ends; a parameter server never returns.

    Args:
        pattern: path of a `task.json`, local or remote; `*` may stand for the number of the Trainer's execution.
    """
    logging.basicConfig(level=logging.INFO)
    while not (found := tf.io.gfile.glob(pattern)):
        time.sleep(_WAIT_SECONDS)
    with tf.io.gfile.GFile(found[0]) as file:
        run.run_fn(SimpleNamespace(**json.load(file)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: TF_CONFIG=… python -m trainer.task …/model_run/*/task.json")
    try:
        main(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
