"""What TensorFlow, Beam and what they bring print of themselves: kept off the screen where the output is data."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import warnings


def quiet_stack() -> None:
    """Keeps their warnings off the screen; to be called before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    for name in ("tensorflow", "apache_beam"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Of a model that Beam or TensorFlow still holds when Python ends, some functions cannot be deleted in order.
    atexit.register(setattr, sys, "unraisablehook", lambda _: None)
