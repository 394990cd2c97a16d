"""Compares production with the test split of the model in service, and selects images worth labeling.

Everything it needs to know about the model is in the model's folder, so it works where there is nothing else.
"""

from __future__ import annotations

import csv
import datetime
import io
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from components.evaluation.intervals import as_range, wilson
from components.ingestion.decoder import Decoder
from components.ingestion.image_reading import for_model
from components.monitoring.comparison import Production, compare
from components.monitoring.selection import Candidates, Chosen, margin
from core import atomic_io, storage
from core.artifacts.exported_model import class_names
from core.artifacts.model_limits import model_limits
from core.artifacts.monitoring import MONITORED, REFERENCE, Monitored, Observation
from core.csv_cells import as_text
from core.errors import InputError
from pipeline.inference import predict
from pipeline.monitoring import observing
from pipeline.monitoring.labels import FILE, LABEL, WHY, Labels
from pipeline.report import thumbnails
from pipeline.report.monitoring import Shown, render

PAGE, LABEL_NEXT = "monitoring.html", "label_next.csv"

_SHOWN = 8  # images on the page, of each reason to label one
_FIRST_VERSION = 10**9  # numbers below are no times in seconds


def monitor(
    model_dir: str,
    images: str,
    output: str,
    *,
    labels: Path | None = None,
    count: int = 200,
    beam_arguments: Sequence[str] = (),
    say: Callable[[str], None],
) -> Monitored:
    """Writes `monitored.json`, `monitoring.html` and `label_next.csv` into a folder.

    Args:
        model_dir: folder of a pushed version, or a push directory, whose latest good version is taken.
        images: a folder of images, local or remote, or the local folder of a request log.
        output: the folder to write; remote if the images are and Beam's workers cannot see a local one.
        labels: a table of file names and labels.
        count: how many images to label next.
        say: called with a sentence about the model, if there is one.

    Raises:
        InputError: there is no such model, there are no images, there is nothing to compare with, the labels cannot be
            read, or the folder cannot be written.
    """
    predict.check_positive(count=count)
    directory = predict.find_model(model_dir, say)
    reference = REFERENCE.read_if_any(directory)
    if reference is None:
        raise InputError(
            f"the model in {directory} has no {REFERENCE.name} beside it, with which production is compared: monitor a "
            "version that a run has pushed, or run the pipeline again"
        )
    classes = class_names(directory)
    if reference.labels.keys() != {*classes} or not reference.overall.images:
        raise InputError(
            f"{REFERENCE.path(directory)} is of other classes than the model, or of no images: it was changed "
            "since the push. Monitor another version, or delete this one and run the pipeline again"
        )
    known = Labels(labels, classes) if labels else None
    output = output.rstrip("/")
    scratch = f"{output}/.{uuid.uuid4().hex}"
    try:
        storage.make_folder(scratch)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give another OUTPUT") from error
    production, candidates, times = Production(classes), Candidates(count), _Times(directory)
    notes: list[str] = []
    try:
        observe = observing.from_log if observing.is_log(images) else observing.from_folder
        with Decoder(for_model, model_limits(directory)) as decoder:
            for one in observe(images, directory, reference.boundaries, scratch, beam_arguments, notes):
                production.add(one)
                candidates.add(one)
                times.add(one)
                if known:
                    known.add(one)
            chosen = _choose(candidates, directory, images, decoder)
            shown = _shown(chosen, classes, images, decoder)
    finally:
        storage.delete_folder(scratch)
    compared = compare(reference, production)
    measured, more = known.measure(reference) if known else (None, [])
    notes += compared.notes
    if not chosen:
        notes.append(f"{LABEL_NEXT} is empty: there is no image that was kept and that the model can read")
    states = ("broken", "doubt", "kept", "unbounded", "too_few")
    overall = reference.overall
    found = Monitored(
        model=directory,
        pushed=_iso(times.pushed),
        age_days=times.age_days,
        since_push=times.since_push,
        first=_iso(times.first),
        last=_iso(times.last),
        images=production.images,
        unreadable=production.unreadable,
        confidence=reference.bounds.confidence,
        test_accuracy=as_range(wilson(overall.right, overall.images, reference.bounds.confidence)),
        expected_accuracy=compared.expected_accuracy,
        findings=sorted([*more, *compared.findings], key=lambda one: states.index(one.state)),
        classes=compared.classes,
        measured=measured,
        notes=notes,
        to_label=len(chosen),
    )
    MONITORED.write(output, found)
    atomic_io.write_text(f"{output}/{LABEL_NEXT}", _table(chosen, classes))
    atomic_io.write_text(f"{output}/{PAGE}", render(found, images, shown))
    return found


class _Times:
    """When the model was pushed, and when the images arrived: seconds since 1970, None if unknown."""

    def __init__(self, directory: str) -> None:
        name = directory.rstrip("/").rpartition("/")[2]
        number = int(name) if name.isascii() and name.isdigit() else 0
        self.pushed = number if number >= _FIRST_VERSION else None
        self.first: float | None = None
        self.last: float | None = None
        self._since = 0

    def add(self, one: Observation) -> None:
        if one.time is not None:
            self.first = one.time if self.first is None else min(one.time, self.first)
            self.last = one.time if self.last is None else max(one.time, self.last)
            self._since += self.pushed is not None and one.time >= self.pushed

    @property
    def age_days(self) -> float | None:
        """Of the model, now."""
        return None if self.pushed is None else round((time.time() - self.pushed) / 86400, 1)

    @property
    def since_push(self) -> int | None:
        """How many of the images came after the push."""
        return None if self.pushed is None or self.first is None else self._since


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")


def _choose(candidates: Candidates, directory: str, images: str, decoder: Decoder[bytes]) -> list[Chosen]:
    with predict.load_saved_model(directory) as model:
        return candidates.choose(lambda pool: observing.embed(model, images, pool, decoder))


def _shown(chosen: Sequence[Chosen], classes: Sequence[str], images: str, decoder: Decoder[bytes]) -> list[Shown]:
    """The first images to label for each reason, as far as they can still be read."""
    shown = list[Shown]()
    for why in ("novel", "uncertain", "random"):
        picked = [entry.observation for entry in chosen if entry.why == why][:_SHOWN]
        locations = (f"{images.rstrip('/')}/{one.path}" for one in picked)
        for one, file in zip(picked, predict.read(locations, decoder), strict=True):
            if not file.error:
                name, best = one.predicted(classes)
                shown.append(Shown(thumbnails.thumbnail(file.encoded, decoder.limits), one.path, why, name, best))
    return shown


def _table(chosen: Sequence[Chosen], classes: Sequence[str]) -> str:
    """The table of images to label, which is passed back as `--labels` once its labels are filled in."""
    target = io.StringIO()
    write = csv.writer(target, lineterminator="\n").writerow
    write([FILE, LABEL, WHY, "predicted", "probability", "margin", "novelty"])
    for observation, why in chosen:
        predicted, best = observation.predicted(classes)
        novelty = "" if observation.novelty is None else f"{observation.novelty:.3f}"
        write(
            [
                as_text(observation.path),
                "",
                why,
                as_text(predicted),
                f"{best:.4f}",
                f"{margin(observation):.4f}",
                novelty,
            ]
        )
    return target.getvalue()
