"""A client of `serve`: `python -m pipeline.inference.client 127.0.0.1:8500 NAME IMAGE...`."""

from __future__ import annotations

import json

import click

from components.serving.model_client import RemoteModel
from core.image_limits import DEFAULT_LIMITS
from pipeline.inference.predict import classify, read


@click.command()
@click.argument("address")
@click.argument("name")
@click.argument("images", nargs=-1, required=True)
def main(address: str, name: str, images: tuple[str, ...]) -> None:
    """Sends IMAGES to the model NAME of the server at ADDRESS (host:port) and prints a JSON line for each.

    A file is read as at ingestion, so that WebP and TIFF become what the model decodes.
    """
    files = [read(path, DEFAULT_LIMITS) for path in images]
    with RemoteModel(address, name) as model:
        for record in classify(model, files, 1):
            record.pop("top_k", None)
            print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
