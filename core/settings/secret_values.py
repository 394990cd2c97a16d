"""Checks that settings contain no secrets, and references to secrets only where these are resolved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core import secrets

_RESOLVED, _ENVIRONMENT = ("runtime.beam", "runtime.metadata.password"), "kubeflow.environment"
_SHELL = "notify"  # a command, whose variables the shell resolves
_WHY = "settings are written into reports, model cards, records and DAGs"
_BY_VARIABLE = (
    "Keep it in an environment variable of the process that runs the stage, and write ${env:NAME} in its place"
)
_BY_CLUSTER = (
    "Keep it in a Kubernetes secret (kubectl create secret generic NAME --from-literal=KEY=…), and write "
    "${secret:NAME/KEY} in its place"
)
_BY_SHELL = (
    "Keep it in an environment variable of the process that runs the pipeline, and write $NAME in its place, which the "
    "shell puts in"
)
_ELSEWHERE = (
    "Leave it out: storage takes its credentials from the environment or the service account, and weights that need "
    "more can be downloaded first, and backbone.weights be set to their path"
)


def secret_values(value: Any, path: str = "") -> Iterator[str]:
    """A line for every secret in plain settings values, and for every reference that nothing would resolve."""
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{path}.{key}".lstrip(".")
            scalar = isinstance(inner, str | int | float) and not isinstance(inner, bool)
            if scalar and inner != "" and secrets.names_secret(str(key)) and not secrets.refers(str(inner)):
                yield _refusal(where, "it")
            else:
                yield from secret_values(inner, where)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            before = value[place - 1] if place else None
            named = isinstance(before, str) and before.startswith("-") and "=" not in before and before.lstrip("-")
            follows = isinstance(inner, str) and not inner.startswith("-") and not secrets.refers(inner)
            if named and follows and path.startswith(_RESOLVED) and secrets.names_secret(named):
                yield _refusal(f"{path}[{place}]", named)
            else:
                yield from secret_values(inner, f"{path}[{place}]")
    elif isinstance(value, str):
        if what := secrets.in_text(value, options=path.startswith((*_RESOLVED, _ENVIRONMENT))):
            yield _refusal(path, what)
        elif problem := _misplaced(path, value):
            yield f"{path}: {problem}"


def _refusal(path: str, what: str) -> str:
    kinds = ((_RESOLVED, _BY_VARIABLE), ((_ENVIRONMENT,), _BY_CLUSTER), ((_SHELL,), _BY_SHELL))
    advice = next((advice for beginnings, advice in kinds if path.startswith(beginnings)), _ELSEWHERE)
    of = path if what == "it" else f"{path}: {what}"
    return f"{of} is a secret, and {_WHY}. {advice} (docs/settings.md, Secrets)"


def _misplaced(path: str, text: str) -> str:
    """Why a reference in a text would not be resolved; "" if it would, or there is none."""
    rest = text
    if path.startswith(_RESOLVED):
        rest = secrets.VARIABLE.sub("", text)
        wanted = "${env:NAME}, NAME being an environment variable where the stage runs"
    elif path.startswith(_ENVIRONMENT):
        rest = "" if secrets.KUBERNETES.fullmatch(text) else text
        wanted = "${secret:NAME/KEY} as the whole value, which the cluster takes from its secret NAME"
    elif path == _SHELL:
        wanted = "$NAME, NAME being an environment variable where the pipeline runs, which the shell puts in"
    else:
        wanted = f"no reference: only {', '.join(_RESOLVED)} and {_ENVIRONMENT} have theirs resolved"
    begins = any(f"${{{kind}" in rest for kind in ("env", "secret", "oc.env", "ENV"))
    return f"a reference that is not resolved here; write {wanted} (docs/settings.md, Secrets)" if begins else ""
