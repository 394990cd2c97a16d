"""Sends image files to a model server and prints a JSON line for each.

    python -m pipeline.inference.client 127.0.0.1:8500 NAME IMAGE...

A file is read as at ingestion, so that WebP and TIFF become what the model decodes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from components.serving.model_client import RemoteModel
from core.image_limits import DEFAULT_LIMITS
from pipeline.inference.predict import classify, read


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `arguments` are the process's if not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port of the server")
    parser.add_argument("name", help="of the model")
    parser.add_argument("images", nargs="+", help="image files")
    given = parser.parse_args(arguments)
    files = [read(path, DEFAULT_LIMITS) for path in given.images]
    with RemoteModel(given.address, given.name) as model:
        for record in classify(model, files, 1):
            record.pop("top_k", None)
            print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
