"""How a long-running step says how far it is: a log record that a console may draw and a cluster may print."""

import logging

LOGGER_NAME = "progress"


def report(done: int, total: int | None, unit: str, note: str = "") -> None:
    """Says that `done` of `total` `unit`s ("images", "steps") are finished.

    Args:
        done: units finished so far in the running stage.
        total: units there are in all, or None where that is not known.
        unit: plural noun.
        note: anything worth a few words beside it, e.g. `"loss 0.31"`.
    """
    logging.getLogger(LOGGER_NAME).info(
        "%d%s %s %s",
        done,
        f"/{total}" if total else "",
        unit,
        note,
        extra={"progress": {"done": done, "total": total, "unit": unit, "note": note}},
    )
