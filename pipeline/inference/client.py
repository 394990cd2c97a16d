"""A client of `serve`: `python -m pipeline.inference.client 127.0.0.1:8500 NAME IMAGE...`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from core.quiet import quiet_stack

_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("address")
@click.argument("name")
@click.argument("images", nargs=-1, required=True)
@click.option("--authority", type=_PEM, help="Encrypt: the authority, or the server's own certificate, in PEM.")
@click.option("--certificate", type=_PEM, help="Of this client, where the server asks for one, in PEM.")
@click.option("--key", type=_PEM, help="Of the client's certificate.")
def main(
    address: str,
    name: str,
    images: tuple[str, ...],
    authority: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Sends IMAGES to the model NAME of the server at ADDRESS (host:port) and prints a JSON line for each.

    Files are read as at ingestion, which converts WebP, TIFF and others to a format that the model decodes.
    """
    quiet_stack()
    import grpc
    import tensorflow as tf

    from components.ingestion.decoder import Decoder
    from components.ingestion.image_reading import for_model
    from components.serving.model_client import RemoteModel
    from components.serving.served_model import first_line
    from core.image_limits import DEFAULT_LIMITS
    from pipeline.inference.predict import classify, read

    with Decoder(for_model, DEFAULT_LIMITS) as decoder:
        files = list(read(images, decoder))
    tls = None
    if authority:
        tls = grpc.ssl_channel_credentials(
            *(path.read_bytes() if path else None for path in (authority, key, certificate))
        )
    try:
        with RemoteModel(address, name, tls=tls) as model:
            for record in classify(model, files, 1):
                record.pop("top_k", None)
                print(json.dumps(record, ensure_ascii=False))
    except tf.errors.UnavailableError as error:
        hint = "" if authority else "; if it encrypts, name --authority"
        raise click.ClickException(f"no server answers at {address}{hint}: {first_line(error)}") from error
    except tf.errors.OpError as error:
        raise click.ClickException(f"the server at {address} refuses: {first_line(error)}") from error


if __name__ == "__main__":
    main()
