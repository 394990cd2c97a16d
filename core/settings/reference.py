"""docs/settings.md: every setting with its type, default and meaning, generated from the settings' JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from core.settings.messages import words
from core.settings.schema import schema

_INTRODUCTION = """\
# All settings

A settings file is YAML: the keys below, nested at the dots. Keys you leave out have the default shown; `name` and
`data.images` have none. `SET="path.of.setting=value …"` overrides any of them for one run. Unknown keys, values of the
wrong type and combinations that cannot work are refused before anything runs, all at once; settings that have no effect
given the others are noted when a run starts. Relative paths are resolved against the folder of the settings file, in
`SET` and its shorthands against the current directory; `~` is your home directory.

This page and `schemas/settings.schema.json`, which editors use to complete and check a settings file, are generated
from the settings classes by `make schemas` or `python -m core.schemas`.

## Secrets

Settings must not contain passwords, keys or tokens, since they are written to reports, model cards, records, ML
Metadata and DAGs. A secret is refused if its name (`password`, `token`, `key`, `secret`, `credentials` and the like,
also in options, URLs and JSON) or its form (`ghp_…`, `AKIA…`, a private key) gives it away. Write a reference instead:

- `${env:NAME}`, in `runtime.beam` and `runtime.metadata.password`, is the environment variable NAME of the process that
  runs the step: whatever starts a local run (the shell, cron, systemd), Airflow's worker, or the container. It is read
  when the step begins.
- `${secret:NAME/KEY}`, as the whole value of a variable in `kubeflow.environment`, is KEY of the Kubernetes secret NAME
  in the namespace of the runs; the cluster passes it to the container.

```yaml
runtime:
  beam: ["--s3_secret_access_key=${env:S3_SECRET}"]     # within brackets, quotes are needed
kubeflow:
  environment:
    StatisticsGen: {S3_SECRET: "${secret:storage/s3}"}  # and so for each stage that runs Beam
```

Whatever a run writes contains the reference; if a library quotes the value in a log or an error, the reference replaces
it; and a changed secret makes no stage run again. Vertex AI passes no secrets to containers: grant the pipeline's
service account what its stages need. Storage (`gs://`, `s3://`) takes its credentials from the environment or the
service account, not from settings.
"""


def reference() -> str:
    """The page, in Markdown."""
    settings = schema()["properties"]
    sections = {name: section for name, one in settings.items() if (section := _keys(one))}
    alone = _table(one for one in settings.items() if one[0] not in sections)
    parts = [f"{_INTRODUCTION}\n## `name`\n", alone]
    for name, section in sections.items():
        optional = "\nOff by default: null.\n" if settings[name].get("default", "") is None else ""
        parts += [f"## `{name}`\n\n{section['description']}\n{optional}", _table(rows(section, f"{name}."))]
    return "\n".join(parts)


def rows(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and JSON Schema of the settings of a section and its subsections, in order."""
    for name, one in section["properties"].items():
        yield prefix + name, one
        if inner := _keys(one):
            yield from rows(inner, f"{prefix}{name}.")
        elif inner := _keys(one.get("additionalProperties")):
            yield from rows(inner, f"{prefix}{name}.<name>.")


def paths() -> list[str]:
    """The paths of all settings."""
    return [path for path, _ in rows(schema())]


def _table(found: Iterable[tuple[str, dict[str, Any]]]) -> str:
    lines = ["| setting | type | default | |", "|---|---|---|---|"]
    for path, one in found:
        default = f"`{json.dumps(one['default'])}`" if "default" in one else ""
        lines.append(f"| `{path}` | {words(one)} | {default} | {one['description']} |")
    return "\n".join(lines) + "\n"


def _keys(one: Any) -> dict[str, Any] | None:
    """The section that a setting is, or may be; None for a value, and for Beam's engines, which have a page of their
    own.
    """
    found = [kind for kind in (one or {}).get("anyOf", [one]) if kind and "properties" in kind]
    return found[0] if len(found) == 1 else None
