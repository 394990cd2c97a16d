"""A process of a training cluster other than the chief: `python -m trainer.task FILE`, with its task in TF_CONFIG.

The chief (TFX's Trainer) writes the file when it begins to train; this process waits for it, and calls the same
`run_fn`.
"""

from __future__ import annotations

import json
import logging
import sys
import time

import tensorflow as tf

from core.errors import InputError
from trainer import run
from trainer.arguments import FnArgs

_WAIT_SECONDS = 1


def main(pattern: str) -> None:
    """Takes part in the training whose `task.json` matches `pattern`; a parameter server never returns."""
    logging.basicConfig(level=logging.INFO)
    while not (found := tf.io.gfile.glob(pattern)):
        time.sleep(_WAIT_SECONDS)
    with tf.io.gfile.GFile(found[0]) as file:
        run.run_fn(FnArgs(**json.load(file)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: TF_CONFIG=… python -m trainer.task …/model_run/*/task.json")
    try:
        main(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
