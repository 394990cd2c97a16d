"""Secrets: settings hold references to them, which are resolved only where the secret is needed.

`${env:NAME}` stands for an environment variable of the process that needs the value, `${secret:NAME/KEY}` for a key of
a Kubernetes secret, which the cluster passes to a container. So nothing written from settings (reports, records, DAGs)
holds a secret, and changing a password does not invalidate the cache.
"""

from __future__ import annotations

import json
import logging
import os
import re
import urllib.parse
from collections.abc import Collection, Iterator
from typing import Any

from core.errors import InputError

VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
KUBERNETES = re.compile(r"\$\{secret:([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)/([-._A-Za-z0-9]{1,253})\}")
"""The names that Kubernetes allows for a secret and its keys."""

_SHORTEST = 4  # characters of a value that is masked: a shorter one is part of too many words

# fmt: off
_NAMING = frozenset((
    "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "key", "apikey",
    "credential", "credentials", "auth", "authorization", "bearer", "cookie", "sas", "signature", "sig", "dsn",
))
_WITHIN = re.compile(
    r"(password|passwd|passphrase|secret|token|(api|access|private|auth)_?key|connection_?string)$"
)  # as PGPASSWORD
# Last words of names that describe a secret: where it is kept, how long it lasts.
_AROUND = frozenset((
    "file", "files", "path", "paths", "dir", "folder", "directory", "name", "names", "type", "types", "kind",
    "size", "length", "count", "ttl", "seconds", "version", "region", "format", "prefix", "mode", "enabled", "url",
    "uri", "host", "port", "endpoint",
))
# fmt: on
# Files, and the names of keys rather than keys.
_NO_SECRETS = ("google_application_credentials", "kms_key", "kms_key_name", "signing_key")
_SWITCHES = ("true", "false", "yes", "no", "none", "null")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Bounded, so that matching takes linear time.
_ASSIGNED = re.compile(r"""(?<![\w.-])-{0,2}([A-Za-z][\w.-]*)["']?\s*[=:]\s*["']?(?=([^\s"',;&]{1,500}))""")
_USER_INFO = re.compile(r"://[^\s/?#@:]{0,200}:(?!\d+(?:/|$))([^\s@]{1,500})@")
_QUERY = re.compile(r"://[^\s?#]{0,500}\?(\S{1,2000})")
# Tokens of the largest services, as secret scanners know them (GitHub's documentation, gitleaks).
_ISSUED = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{50}|\bglpat-[\w-]{20}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}|\bya29\.[\w-]{20}|\bxox[abposr]-[\w-]{10}|\bhf_[A-Za-z0-9]{30}"
    r"|\bsk-[\w-]{20}|\beyJ[\w-]{10,500}\.eyJ[\w-]{10,500}|\bAccountKey=[\w+/]{20}"
)


def variables(value: Any) -> list[str]:
    """The names of the environment variables that plain values refer to, sorted."""
    return sorted({name for text in _texts(value) for name in VARIABLE.findall(text)})


def refers(value: Any) -> bool:
    """Whether plain values contain a reference."""
    return any(VARIABLE.search(text) or KUBERNETES.search(text) for text in _texts(value))


def require_set(names: Collection[str]) -> None:
    """Raises InputError if an environment variable that settings refer to is not set."""
    if missing := [name for name in names if name not in os.environ]:
        named = ", ".join(f"${{env:{name}}}" for name in missing)
        raise InputError(
            f"the settings refer to {named}, which this process has not: set the environment variable"
            f"{'s' if len(missing) > 1 else ''} {', '.join(missing)} where the pipeline runs (export {missing[0]}=…)"
        )


def resolve(text: str) -> str:
    """The text with the values of the environment variables it refers to. Raises InputError if one is not set."""
    require_set(variables(text))
    return VARIABLE.sub(lambda match: os.environ[match[1]], text)


def mask(text: str, names: Collection[str]) -> str:
    """The text with these environment variables' values replaced by references: libraries may quote a value."""
    values = {os.environ.get(name, ""): f"${{env:{name}}}" for name in names}
    forms = {
        form: reference
        for value, reference in values.items()
        for form in (value, urllib.parse.quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1])
        if len(value) >= _SHORTEST
    }
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, forms[form])
    return text


class MaskingFormatter(logging.Formatter):
    """Masks the values of these environment variables in log lines and tracebacks."""

    def __init__(self, layout: str, names: Collection[str]) -> None:
        super().__init__(layout)
        self._names = names

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        return mask(super().format(record), self._names)


def names_secret(name: str) -> bool:
    """Whether a name is that of a secret: `s3_secret_access_key`, `DB_PASSWORD`, `apiKey`, but not `token_file`."""
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "_".join(words)
    if not words or words[-1] in _AROUND or joined.endswith(_NO_SECRETS):
        return False
    return not _NAMING.isdisjoint(words) or _WITHIN.search(joined) is not None


def in_text(text: str, options: bool = False) -> str | None:
    """Which part of a text is a secret, by name or description, never the secret itself; None if there is none.

    Args:
        options: whether the text may be an option or a variable's value, in which `name=value` has a meaning.
    """
    text = KUBERNETES.sub("", text)
    if any(not VARIABLE.search(match[1]) for match in _USER_INFO.finditer(text)):
        return "the password in its URL"
    if _ISSUED.search(text):
        return "what looks like a key or token"
    scanned = [text] if options else _QUERY.findall(text)
    for match in (match for part in scanned for match in _ASSIGNED.finditer(part)):
        if names_secret(match[1]) and not VARIABLE.search(match[2]) and match[2].lower() not in _SWITCHES:
            return match[1]
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
