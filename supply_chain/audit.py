"""Asks the advisory service about every package in uv.lock, and compares its answer with the accepted advisories.

    make audit        # the service must answer

Exit codes: 0, all known advisories are accepted; 1, one is not, or an acceptance is stale or due; 2, the service could
not be asked, which says nothing about the packages. With `--if-reachable`, a service that this machine cannot connect
to gives one line and exit code 0; any later failure still fails.

Accepting advisories instead of ignoring them has a second use: the service must know them. One that answers but knows
nothing, such as an empty mirror, shows up as stale acceptances.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
ACCEPTED = Path(__file__).with_name("accepted.yaml")
SERVICE = "https://api.osv.dev/"
_SECONDS = 20.0


class Accepted(msgspec.Struct, forbid_unknown_fields=True):
    """A known advisory that is accepted.

    Attributes:
        id: the advisory's, or one of its aliases.
        package: the package that it is about.
        reason: why it does no harm here, or less harm than a fix would.
        look_again: the day from which the audit fails until somebody has reconsidered it.
    """

    id: str
    package: str
    reason: str
    look_again: datetime.date

    def __post_init__(self) -> None:
        if len(self.reason.split()) < 5:
            raise ValueError(f"{self.id}: say why in a sentence")


class Dependency(msgspec.Struct):
    """A locked package."""

    name: str
    version: str


class Advisory(msgspec.Struct):
    """An advisory that uv found."""

    dependency: Dependency
    id: str
    aliases: list[str] = []
    summary: str | None = None
    link: str | None = None
    fix_versions: list[str] = []


class Summary(msgspec.Struct):
    """How many packages were asked about."""

    audited_packages: int


class Answer(msgspec.Struct):
    """uv's complete answer."""

    summary: Summary
    vulnerabilities: list[Advisory]
    adverse_statuses: list[Any] = []


class CouldNotAskError(Exception):
    """The service did not answer, or not as expected."""


def read_accepted(path: Path = ACCEPTED) -> list[Accepted]:
    """The acceptances; raises msgspec.ValidationError if one is incomplete."""
    return msgspec.convert(YAML(typ="safe").load(path) or [], list[Accepted])


def ask(uv: Path, service: str) -> Answer:
    """What uv finds about all packages in the lock, with every extra and group.

    Raises:
        CouldNotAskError: with uv's message.
    """
    command = [uv, "audit", "--project", ROOT, "--frozen", "--output-format", "json", "--service-url", service]
    done = subprocess.run(
        [*command, "--preview-features", "audit-command,json-output", "--no-progress"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise CouldNotAskError(done.stderr.strip() or f"uv ended with {done.returncode}")
    try:
        answer = msgspec.json.decode(done.stdout, type=Answer)
    except msgspec.DecodeError as error:
        raise CouldNotAskError(f"uv's answer is not understood: {error}\n{done.stderr}") from error
    if not answer.summary.audited_packages:
        raise CouldNotAskError("uv asked about no package")
    return answer


def faults(answer: Answer, accepted: Sequence[Accepted], today: datetime.date) -> list[str]:
    """A line for each advisory that is not accepted, and each acceptance that is stale or due."""
    lines, known = [], set()
    for one in answer.vulnerabilities:
        found = {(name, one.dependency.name) for name in (one.id, *one.aliases)}
        if matching := {(accept.id, accept.package) for accept in accepted} & found:
            known |= matching
            continue
        fixed = f"fixed in {', '.join(one.fix_versions)}" if one.fix_versions else "not fixed in any version"
        names = " ".join([one.id, *one.aliases])
        lines.append(f"{one.dependency.name} {one.dependency.version}: {names}: {one.summary} ({fixed}; {one.link})")
    lines += [f"has an adverse status: {msgspec.json.encode(one).decode()}" for one in answer.adverse_statuses]
    for accept in accepted:
        if (accept.id, accept.package) not in known:
            lines.append(
                f"{accept.id} of {accept.package} is accepted, and the service knows no such advisory of the locked "
                "version: delete it from supply_chain/accepted.yaml, if the service is the right one"
            )
        elif accept.look_again <= today:
            lines.append(
                f"{accept.id} of {accept.package} was accepted until {accept.look_again}: look whether that still "
                "holds, and give it a later look_again in supply_chain/accepted.yaml"
            )
    return lines


def unreachable(service: str) -> str:
    """Why this machine cannot connect to the service; empty if it can, whatever the answer."""
    try:
        urllib.request.urlopen(service, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:  # URLError is one
        return str(getattr(error, "reason", error))
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", type=Path, default=ROOT / ".venv-uv" / "bin" / "uv")
    parser.add_argument("--service", default=SERVICE, help="one that speaks OSV's API")
    parser.add_argument("--if-reachable", action="store_true")
    options = parser.parse_args(arguments)
    if options.if_reachable and (why := unreachable(options.service)):
        print(f"audit: not done, {options.service} cannot be reached from here: {why}")
        return 0
    accepted = read_accepted()
    try:
        answer = ask(options.uv, options.service)
    except CouldNotAskError as error:
        print(f"audit: could not ask {options.service}, so nothing is known:\n{error}", file=sys.stderr)
        return 2
    lines = faults(answer, accepted, datetime.date.today())
    for line in lines:
        print(f"audit: {line}", file=sys.stderr)
    if lines:
        print("audit: update what is named, or accept it with a reason in supply_chain/accepted.yaml", file=sys.stderr)
        return 1
    print(f"audit: {answer.summary.audited_packages} packages, {len(accepted)} advisories, all accepted with a reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
