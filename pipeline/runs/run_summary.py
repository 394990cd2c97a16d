"""What a run says at its end: what happened, why, and where to look."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.runners.console import Console
from pipeline.runs import outcome as outcomes
from pipeline.runs.outcome import Outcome

_SHOWN = ("accuracy", "top_3_accuracy", "cross_entropy")  # of the metrics; last_run.json has all


def say_outcome(outcome: Outcome, console: Console, home: Path) -> None:
    """Prints the verdict, the reasons, what was measured, and the paths of report, record and log."""
    console.say()
    style = {"pushed": "bold green", "refused": "bold red", "failed": "bold red"}[outcome.status]
    verdict = {
        "pushed": f"pushed: {outcome.pushed_model}",
        "refused": "refused: nothing was pushed",
        "failed": "failed: " + ("the input is unfit" if outcome.exit_code == outcomes.BAD_INPUT else "a fault of ours"),
    }[outcome.status]
    console.say(verdict, style=style)
    for entry in outcome.failures:
        where = f"{entry['stage']}: " if entry.get("stage") else ""
        console.say_prose("  ", f"{where}{entry['message']}")
    if outcome.metrics:
        shown = {name: m for name, m in outcome.metrics.items() if name in _SHOWN and m["overall"] is not None}
        console.say("  " + " · ".join(_metric(name, m) for name, m in shown.items()))
    if outcome.images:
        counts = outcome.images
        console.say(
            f"  {counts['read']:,} images read, {counts['rejected']:,} rejected; "
            f"{counts['train']:,} train, {counts['eval']:,} eval, {counts['test']:,} test"
        )
    if outcome.tuning:
        best = " ".join(f"{path}={json.dumps(value)}" for path, value in outcome.tuning["best"].items())
        console.say(f"  best of {outcome.tuning['trials']} trials: {best}")
        console.say("  to keep these without a search, write them into the settings")
    for note in outcome.notes:
        console.say_prose("  note: ", note, style="yellow")
    if outcome.status == "pushed" and outcome.pushed_model:
        console.say(f'  try it: make predict MODEL={outcome.pushed_model} IMAGES="one.jpg two.png"')
    console.say(f"  {outcome.seconds:.0f} s · peak memory {outcome.peak_rss_mb:,} MB")
    if outcome.report:
        console.say(f"  report:  {outcome.report}")
    console.say(f"  details: {home / outcomes.RECORD_FILE}")
    console.say(f"  log:     {outcome.log}")


def _metric(name: str, values: dict[str, float | None]) -> str:
    baseline = f" (last blessed {values['baseline']:.4f})" if values.get("baseline") is not None else ""
    return f"{name} {values['overall']:.4f}{baseline}"
