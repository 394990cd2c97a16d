"""Provides a home and a user name for processes without them, as in many containers: libraries insist on both."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Sets `HOME` and `USER` if they are unknown; the home is then a folder among the temporary files."""
    try:
        has_home = Path.home().is_dir()
    except RuntimeError:  # an id that no list of users has
        has_home = False
    if not has_home:
        home = Path(tempfile.gettempdir()) / f"image-classifier-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        ours = home.is_dir() and not home.is_symlink() and home.stat().st_uid == os.getuid()
        os.environ["HOME"] = str(home) if ours else tempfile.mkdtemp()
    try:
        getpass.getuser()
    except KeyError:
        os.environ["USER"] = str(os.getuid())
