"""Secrets in settings: a reference to an environment variable, `${env:NAME}`, which is read where it is used."""

import os
import re

from core.errors import InputError

_REFERENCE = re.compile(r"\$\{env:(\w+)\}")


def is_reference(text: str) -> bool:
    """Whether all of a text is such a reference."""
    return _REFERENCE.fullmatch(text) is not None


def resolve(text: str, setting: str) -> str:
    """The text with the variables' values in it. Raises InputError, naming the `setting`, where one is not set."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"{setting}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _REFERENCE.sub(value, text)
