"""Carries out people's decision about a blessed model that waits to be pushed, and records it everywhere.

The push directory comes first: it alone determines what serves, and a decision holds even if nothing else is at hand.
Then ML Metadata, the record of the run and its report follow.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
from pathlib import Path
from typing import Literal

from components.serving import push
from core import atomic_io, checksums, storage
from core.artifacts.blessing import REJECTED
from core.artifacts.heartbeat import HEARTBEAT
from core.artifacts.last_run import LAST_RUN, Outcome
from core.artifacts.pushed_model import (
    DECIDED,
    MODEL_CARD,
    REJECTED_TO,
    WAITING,
    WAITS,
    Decision,
    beside,
    numbered,
)
from core.artifacts.verdict import BLESSING
from core.errors import InputError
from core.settings import Settings
from core.settings.converter import to_json
from pipeline.report import make
from pipeline.report.formats import plain
from pipeline.runners.ending import notify
from pipeline.runs import history, lineage, metadata
from pipeline.runs.monitor import Monitor
from pipeline.runs.outcome import decided
from pipeline.runs.run_dir import read_last
from pipeline.runs.run_lock import alone

_CARD_ROW = "| approval | "


def decide(
    settings: Settings,
    folder: Path,
    directory: str,
    version: str,
    decision: Literal["approved", "rejected"],
    by: str | None,
    why: str,
) -> list[str]:
    """Puts the waiting version with that number into service, or removes it.

    If the version is the last run's, the outcome of that run becomes `pushed` or `refused`, with a notification. A
    decision that was not recorded everywhere, since the process was killed, is recorded now.

    Args:
        folder: of the pipeline; need not exist.
        directory: of its pushed versions, local or remote.
        by: who decides; None for the user of this machine.

    Returns:
        A sentence about what was done, and one about each thing that could not be done.

    Raises:
        InputError: no such version waits, there is no reason or name, or a run is going on in the folder.
        MachineError: the version is damaged.
    """
    if not why.strip():
        raise InputError('say why, for those who come after: WHY="…"')
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    said = Decision(decision, _on_one_line(by or _user()), now, _on_one_line(why))
    waiting = f"{beside(directory, WAITING)}/{version}"
    with contextlib.ExitStack() as stack:
        if folder.is_dir():
            stack.enter_context(alone(folder, print if settings.runtime.if_running == "wait" else None))
        before = None
        try:
            if decision == "approved":
                place = push.approve(directory, version, said, lambda path: _onto_card(path, said))
                done = f"now serving {place}"
            else:
                place = push.reject(directory, version, said)
                done = f"rejected: version {version} is deleted; its checksums and the decision are kept in {place}"
        except InputError:
            if not (before := push.decided(directory, version)):
                raise
            place, said = before
            done = f"version {version} was {said}; now that is recorded"
        reader = lineage.Reader({})
        unrecorded = "the decision could not be recorded"
        serves = any(checksums.listed(one.path) == checksums.listed(place) for one in numbered(directory))
        known = reader.attempt(unrecorded, lambda: _record(settings, folder, waiting, said, place, serves))
        last = reader.attempt(unrecorded, lambda: _record_last(settings, folder, waiting, said, place))
    if before and not (known or last or reader.problems):
        undo = "; `make rollback` takes what serves out of service" if said.decision == "approved" else ""
        raise InputError(f"version {version} was {said}. Nothing is left to decide{undo}")
    if not (known or before or reader.problems):
        holds = "the record of the run and the version hold it" if last else "only the version holds it"
        reader.problems.append(
            f"ML Metadata was not told of the decision, since none that these settings name knows the version; {holds}"
        )
    if last:
        reader.problems += filter(None, [notify(settings, last)])
    return [done, *reader.problems]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # an account without a name, as in many a container
        raise InputError('this account has no name, so say who decides: BY="…"') from error


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _onto_card(version: str, decision: Decision) -> None:
    """Adds the decision to the model card, if there is one."""
    path = f"{version}/{MODEL_CARD}"
    if not storage.exists(path):  # a cluster makes none
        return
    lines = atomic_io.read_text(path).splitlines(keepends=True)
    row = f"{_CARD_ROW}{plain(decision)} |\n"
    atomic_io.write_text(path, "".join(row if line.startswith(_CARD_ROW) else line for line in lines))


def _record(settings: Settings, folder: Path, waiting: str, decision: Decision, place: str, serves: bool) -> bool:
    """Adds the decision to ML Metadata; returns whether it has the version, and had no decision yet.

    `serves`: whether this very model serves, perhaps with other text on its card.
    """
    server = settings.runtime.metadata
    if not metadata.exists(folder, server):
        return False
    store = metadata.open_store(folder, server)
    pipeline = store.get_context_by_type_and_name("pipeline", settings.name)
    every = store.get_artifacts_by_context(pipeline.id) if pipeline else []
    pushed = [one for one in every if _same(lineage.output_of(one).properties.get(WAITS), waiting)]
    if not pushed:
        return False
    for artifact in pushed:
        properties = artifact.custom_properties
        properties[WAITS].string_value = ""
        properties[DECIDED].string_value = to_json(decision)
        if decision.decision == "approved":
            properties["pushed"].int_value = 1
            properties["pushed_destination"].string_value = place
            properties["pushed_version"].string_value = place.rpartition("/")[2]
        else:
            properties[REJECTED_TO].string_value = place
    runs = {
        context.name
        for artifact in pushed
        for context in store.get_contexts_by_artifact(artifact.id)
        if context.type == lineage.RUN
    }
    if not serves:  # the next candidate is not to be judged against it, nor begin with it
        left = [lineage.output(lineage.node_runs(store, run), BLESSING) for run in runs]
        blessings = store.get_artifacts_by_id(sorted({blessing.id for blessing in left if blessing}))
        for blessing in blessings:
            blessing.custom_properties[REJECTED].int_value = 1
        store.put_artifacts(blessings)
    for run in runs:
        history.amend(store, settings.name, run, lambda outcome: decided(outcome, decision, place))
    store.put_artifacts(pushed)  # at last: whoever is killed before decides again
    return True


def _record_last(settings: Settings, folder: Path, waiting: str, decision: Decision, place: str) -> Outcome | None:
    """Adds the decision to the record of the last run, on this machine or a cluster, if the version is that run's."""
    root = settings.kubeflow.pipeline_root
    for home in (str(folder), *([f"{root.rstrip('/')}/{settings.name}"] if root else [])):
        last = read_last(home, print)
        if not last or not _same(last.waiting, waiting):
            continue
        decided(last, decision, place)
        if settings.publish:  # the next run publishes what was approved
            last.inputs = None
        LAST_RUN.write(home, last)
        if last.report:
            make.remake_report(folder, settings.name)
        beat = HEARTBEAT.read_if_any(home)
        if beat and beat.status == "waiting":  # else that of a run that began since
            text = settings.runtime.metrics_directory if home == str(folder) else None
            Monitor(settings.name, home, beat.run, text).finish(last)
        return last
    return None


def _same(one: object, other: str) -> bool:
    """Whether two paths, of which the first may be None, mean the same folder."""
    return one == other or (
        not storage.is_remote(other) and bool(one) and os.path.realpath(str(one)) == os.path.realpath(other)
    )
