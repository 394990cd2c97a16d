"""Pins the Dockerfile's base images to the current digests of their tags.

    make pin-images                                # writes the digests; look at the difference, and commit it
    .venv/bin/python -m supply_chain.images --check   # each is pinned to an image that its registry still has

A tag's owner can move it to another image; a digest identifies the image. Pins age: run this again when the base gets
fixes. Exit codes of `--check`: 0, all are pinned; 1, one is not, or its registry lacks it; 2, a registry could not be
asked. With `--if-reachable`, registries that this machine cannot connect to give one line and exit code 0.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"

_IMAGE = re.compile(r"^((?:FROM|ARG BASE=)\s*)(?!\$|python AS|python$)([\w./:-]+)(@sha256:[0-9a-f]{64})?", re.MULTILINE)
_HUB = "registry-1.docker.io"
_INDEX = (  # of all platforms first
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
_SECONDS = 20.0
_MOST = 2**22  # bytes of a manifest, as registries bound them


def digest(image: str, reference: str = "") -> str:
    """The digest, `sha256:…`, of what a registry returns for a name's tag, or for the digest `reference`.

    Raises:
        urllib.error.HTTPError: 404 if it has no such image.
        OSError: it does not answer.
        ValueError: what it sent does not match the digest.
    """
    host, path, tag = _parts(image)
    scheme = "http" if re.match(r"(localhost|127\.)", host) else "https"
    url = f"{scheme}://{host}/v2/{path}/manifests/{reference or tag}"
    try:
        body, said = _get(url, {"Accept": _INDEX})
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        asked = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
        query = urllib.parse.urlencode({"service": asked.get("service", ""), "scope": f"repository:{path}:pull"})
        token = json.loads(_get(f"{asked['realm']}?{query}", {})[0])
        given = token.get("token") or token["access_token"]
        body, said = _get(url, {"Accept": _INDEX, "Authorization": f"Bearer {given}"})
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if found != (reference or said or found):
        raise ValueError(f"the registry sent {found}, not {reference or said}")
    return found


def _parts(image: str) -> tuple[str, str, str]:
    """Registry, name and tag, as Docker understands an image's name."""
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        name, tag = image, "latest"
    first, slash, rest = name.partition("/")
    if slash and (":" in first or "." in first or first == "localhost"):
        return first, rest, tag
    return _HUB, name if slash else f"library/{name}", tag


def _get(url: str, headers: dict[str, str]) -> tuple[bytes, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS) as response:
        return response.read(_MOST + 1), response.headers.get("Docker-Content-Digest", "")


def pinned(text: str, ask: Callable[[str], str] = digest) -> str:
    """The Dockerfile with its images pinned to the current digests of their tags."""
    return _IMAGE.sub(lambda match: f"{match[1]}{match[2]}@{ask(match[2])}", text)


def faults(text: str, ask: Callable[[str, str], str] = digest) -> list[str]:
    """A line for each image in a Dockerfile that is not pinned, or that its registry lacks."""
    lines = []
    for _, image, pin in _IMAGE.findall(text):
        if not pin:
            lines.append(f"{image} is not pinned: run make pin-images, where its registry can be reached")
            continue
        try:
            ask(image, pin[1:])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            lines.append(f"{image}{pin}: its registry has no such image: run make pin-images")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dockerfile", type=Path, default=DOCKERFILE)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--if-reachable", action="store_true")
    options = parser.parse_args(arguments)
    text = options.dockerfile.read_text()
    images = [image + pin for _, image, pin in _IMAGE.findall(text)]
    try:
        if options.if_reachable:
            digest(images[0].partition("@")[0])
    except (OSError, ValueError, KeyError) as error:
        if not isinstance(error, urllib.error.HTTPError):
            unpinned = ", ".join(image for image in images if "@" not in image) or "none"
            print(f"images: not checked, no registry can be reached from here: {error}; not pinned: {unpinned}")
            return 0
    try:
        if options.check:
            lines = faults(text)
            print("\n".join(f"images: {line}" for line in lines) or f"images: {', '.join(images)}")
            return 1 if lines else 0
        options.dockerfile.write_text(pinned(text))
    except (OSError, ValueError, KeyError) as error:
        print(f"images: could not ask the registry: {error}; nothing is changed", file=sys.stderr)
        return 2
    print(f"images: {options.dockerfile} names what the tags are now; look at the difference, and commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
