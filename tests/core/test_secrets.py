"""References to secrets, and what is one."""

import logging
import time

import pytest

from core import secrets
from core.errors import InputError

VALUE = 'pa"ss/w\u00f6rd'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3_secret_access_key", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("PGPASSWORD", True),
        ("MYSQL_PWD", True),
        ("clientSecret", True),
        ("githubtoken", True),
        ("azure_connection_string", True),
        ("key", True),
        ("monkey", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("MAX_TOKENS", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", False),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("dataflow_kms_key", False),
    ],
)
def test_a_name_tells_a_secret(name: str, expected: bool) -> None:
    assert secrets.names_secret(name) is expected


@pytest.mark.parametrize(
    "text",
    [
        "--password=x1",
        "-Dpassword=x1",
        "-p password: x1",
        '{"api_key": "x1"}',
        "https://me:x1@host/a",
        "jdbc:mysql://host/db?user=me&password=x1",
        "postgresql://me:p/4@ss@host",
        "AccountName=a;AccountKey=x1",
        "-----BEGIN RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
    ],
)
def test_a_secret_in_a_text_is_found_and_not_quoted(text: str) -> None:
    found = secrets.in_text(text, options=True)
    assert found and "x1" not in found


@pytest.mark.parametrize(
    "text",
    [
        "--password=${env:P}",
        "https://me:${env:P}@host/a",
        "--auth=user:${env:P}",
        "--allow_non_deterministic_key_coders=true",
        "http://host:8080/a@b",
        "/data/a:b@c",
        '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)
def test_text_without_a_secret_is_accepted(text: str) -> None:
    assert secrets.in_text(text, options=True) is None


def test_looking_takes_time_in_proportion_to_the_text() -> None:
    began = time.process_time()
    for text in ("x" * 250_000, "://a:b" * 40_000, "-eyJ" * 60_000, "a?" * 120_000, "password" * 30_000):
        assert secrets.in_text(text, options=True) is None
    assert time.process_time() - began < 5  # a minute or hours, were it quadratic


def test_a_reference_is_resolved_or_the_message_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", VALUE)
    assert secrets.resolve("--a=${env:DB_PASSWORD}@x") == f"--a={VALUE}@x"
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(InputError, match="set the environment variable DB_PASSWORD where the pipeline runs"):
        secrets.resolve("--a=${env:DB_PASSWORD}@x")


def test_values_that_libraries_quote_are_masked_in_messages_and_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", VALUE)
    assert secrets.variables({"a": ["x${env:DB_PASSWORD}"], "b": 1}) == ["DB_PASSWORD"]
    said = f"bad option {VALUE!r}, {VALUE}, https://me:pa%22ss%2Fw%C3%B6rd@host"
    masked = secrets.mask(said, ["DB_PASSWORD", "UNSET"])
    assert masked == "bad option '${env:DB_PASSWORD}', ${env:DB_PASSWORD}, https://me:${env:DB_PASSWORD}@host"
    try:
        raise ValueError(VALUE)
    except ValueError as error:
        record = logging.LogRecord("beam", 30, "", 1, "given %s", ([VALUE],), (ValueError, error, error.__traceback__))
    text = secrets.MaskingFormatter("%(name)s: %(message)s", ["DB_PASSWORD"]).format(record)
    assert text.startswith("beam: given ['${env:DB_PASSWORD}']") and "ValueError: ${env:DB_PASSWORD}" in text
    assert VALUE not in text
