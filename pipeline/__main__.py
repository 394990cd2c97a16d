"""`python -m pipeline <verb>`, with the packages of its own environment.

Packages in `PYTHONPATH` (which ROS and many clusters' shells set) or in the current directory must not be imported in
place of the locked ones, neither by this process nor by its children.
"""

import os
import sys
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[1])


def main(prog_name: str | None = None) -> None:
    """Runs the command line."""
    foreign = {
        os.path.normpath(Path(folder).absolute()) for folder in os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    }
    foreign.add(sys.path[0])  # the current directory, of `-m`
    sys.path[:] = [folder for folder in sys.path if folder == _CHECKOUT or folder not in foreign]
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # for later TensorFlows; this one would look for another package
    from pipeline.cli.main import main as verbs

    verbs(prog_name=prog_name)


if __name__ == "__main__":
    main("python -m pipeline")
