"""The tables that README.md and docs/ show of the measurements in `benchmarks/results`.

Each stands between `<!-- made by benchmarks/pages.py: <name> -->` and `<!-- end -->`. One of which nothing was measured
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.results import FOLDER, Row, load, median, of

PROJECT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/performance.md", "docs/data.md")
_BLOCK = re.compile(r"(<!-- made by benchmarks/pages\.py: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Rows = Sequence[Row]


def write() -> None:
    """Writes the tables into the pages."""
    for name in PAGES:
        page = PROJECT / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """A page with its tables as the measurements have them."""
    measured = [(path.stem, rows) for path in sorted(FOLDER.glob("*.csv")) if (rows := load(path))]

    def block(found: re.Match[str]) -> str:
        tables = [(machine, rows, list(BLOCKS[found[2]](rows))) for machine, rows in measured]
        shown = "\n\n".join(
            "\n".join([_caption(machine, rows), "", *lines]) for machine, rows, lines in tables if lines
        )
        return f"{found[1]}{shown}\n{found[4]}" if shown else found[0]

    return _BLOCK.sub(block, text)


def _caption(machine: str, rows: Rows) -> str:
    newest = max(rows, key=lambda row: row.date)
    return f"`{machine}`, {newest.date[:10]}, commit {newest.commit}:"


def summary(rows: Rows) -> Iterator[str]:
    """The table of issue and README: what was measured, in words and numbers, and what is to be reached."""
    lines = list(_summary(rows))
    if lines:
        yield "| | measured | to reach |"
        yield "|---|---|---|"
        yield from (f"| {what} | {measured} | {bar} |" for what, measured, bar in lines)


def _summary(rows: Rows) -> Iterator[tuple[str, str, str]]:
    for case, bar in (("cold", "≤ 1.8 for 500"), ("large", "≤ 1.10 for 3,669")):
        if found := of(rows, case, "run"):
            yield f"{found[0].images:,} photos, whole cold run over the bare pass", _over_bare(rows, case), bar
    if found := _near(rows, 4000):
        yield f"{found[0].images:,} pictures of 160 px at 75 px, cold", _seconds(found), "≤ 90 s for 4,000"
    if found := of(rows, "digits", "run"):
        yield "embedded digits, cold, environment made", _seconds(found), "≤ 60 s"
    for case, what, bar in (
        ("head", "only the head changed, {} photos", "≤ 45 s"),
        ("unchanged", "nothing changed, {} photos", "≤ 8 s"),
    ):
        if found := of(rows, case, "run"):
            yield what.format(f"{found[0].images:,}"), _seconds(found), bar
    if (found := of(rows, "more", "run")) and (whole := of(rows, "large", "run", found[0].images)):
        share = median(row.wall for row in found) / median(row.wall for row in whole)
        yield f"100 new among {found[0].images:,}", f"{_seconds(found)}: {share:.0%} of cold", "≤ 10 % of cold"
    if found := of(rows, "phones", "run"):
        read = of(rows, "phones", "stage ImageExampleGen")
        yield (
            f"{found[0].images:,} photos of 12 megapixels, cold",
            f"ImageExampleGen {median(row.wall for row in read) / found[0].images:.2f} s a photo; "
            f"{_over_bare(rows, 'phones')}",
            "≤ 0.15 s a photo, ≤ 1.3",
        )
    for batch in (1, 32):
        if (found := of(rows, "served", f"served {batch}")) and (base := of(rows, "served", f"network {batch}")):
            yield f"served over gRPC, batch {batch}, over the base alone", _ratio(found, base), "≤ 0.9"
    small, most = _near(rows, 4000), of(rows, "scale", "run")
    if small and most and small[0].images < most[0].images:
        high, low = (median(row.peak_mb for row in found) for found in (most, small))
        yield (
            f"peak memory, {most[0].images:,} over {small[0].images:,} pictures",
            f"{high:,.0f} / {low:,.0f} MB = {high / low:.2f}",
            "≤ 1.1, < 3 GB",
        )


def details(rows: Rows) -> Iterator[str]:
    """Every run and pass: seconds, CPU seconds and memory."""
    whats = ["run", "bare", "served 1", "network 1", "served 32", "network 32"]
    kinds = {(row.case, row.images, row.what) for row in rows if row.what in whats}
    if kinds:
        yield "| case | pictures | what | rounds | seconds, median (spread) | CPU s | peak MB |"
        yield "|---|---:|---|---:|---:|---:|---:|"
    cases = list(dict.fromkeys(row.case for row in rows))
    for case, images, what in sorted(kinds, key=lambda kind: (cases.index(kind[0]), kind[1], whats.index(kind[2]))):
        found = of(rows, case, what, images)
        peak = f"{max(row.peak_mb for row in found if row.peak_mb):,}" if any(row.peak_mb for row in found) else ""
        digits = 3 if what.split()[0] in ("served", "network") else 1
        cpu = f"{median(row.cpu for row in found):,.{digits}f}"
        yield f"| {case} | {images:,} | {what} | {len(found)} | {_spread(found, digits)} | {cpu} | {peak} |"


def bound(rows: Rows) -> Iterator[str]:
    """The floor: the least time in which this machine could do the base's operations."""
    operations = of(rows, "floor", "GFLOP a picture")
    peaks = {row.what: row for row in rows if row.case == "floor" and row.what != "GFLOP a picture"}
    if operations and peaks:
        cost = median(row.value for row in operations)
        best = {what: median(row.value for row in of(rows, "floor", what)) for what in peaks}
        most = max(best.values())
        yield f"- InceptionV3 to `mixed10` at 299 px: {cost:.1f} GFLOP a picture."
        rates = ", ".join(f"{what} {rate:,.0f} GFLOP/s" for what, rate in best.items())
        yield f"- The most TensorFlow reaches: {rates}."
        yield f"- So {1000 * cost / most:.1f} ms a picture are the floor."
        for case in ("cold", "large"):
            for what in ("bare", "run"):
                if found := of(rows, case, what):
                    each = 1000 * median(row.wall for row in found) / found[0].images
                    yield (
                        f"- {case}, {what}, {found[0].images:,} photos: {each:.1f} ms a picture, "
                        f"{each * most / 1000 / cost:.2f} times the floor."
                    )


def line(rows: Rows) -> Iterator[str]:
    """Time against the number of pictures, and the line through it."""
    counts = sorted({row.images for row in rows if row.case == "scale"})
    if len(counts) < 2:
        return
    runs = {count: of(rows, "scale", "run", count) for count in counts}
    wall = [median(row.wall for row in runs[count]) for count in counts]
    slope, constant = np.polyfit(counts, wall, 1)
    yield "| pictures of 160 px at 75 px | seconds | the line | CPU s | bare pass, s | peak MB |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for count, seconds in zip(counts, wall, strict=True):
        cpu, peak = median(row.cpu for row in runs[count]), max(row.peak_mb or 0 for row in runs[count])
        bare = median(row.wall for row in of(rows, "scale", "bare", count))
        fitted = constant + slope * count
        yield f"| {count:,} | {seconds:,.1f} | {fitted:,.1f} | {cpu:,.1f} | {bare:,.1f} | {peak:,} |"
    yield ""
    yield f"The line: {constant:.1f} s and {1000 * slope:.2f} ms a picture (least squares)."


def stages(rows: Rows) -> Iterator[str]:
    """Where the seconds of the largest run on photos go."""
    case = "large" if of(rows, "large", "run") else "cold"
    run = of(rows, case, "run")
    if not run:
        return
    whole, cpu = median(row.wall for row in run), median(row.cpu for row in run)
    yield f"| {run[0].images:,} photos | seconds | of the run | CPU s |"
    yield "|---|---:|---:|---:|"
    whats = dict.fromkeys(row.what for row in rows if row.case == case and row.what.startswith("stage "))
    total = total_cpu = 0.0
    for what in whats:
        if found := of(rows, case, what, run[0].images):
            wall, used = median(row.wall for row in found), median(row.cpu for row in found if row.cpu is not None)
            total, total_cpu = total + wall, total_cpu + used
            if wall >= 0.5:
                yield f"| {what.removeprefix('stage ')} | {wall:,.1f} | {wall / whole:.0%} | {used:,.1f} |"
    yield f"| all stages, each by its own clock | {total:,.1f} | {total / whole:.0%} | {total_cpu:,.1f} |"
    yield f"| **whole run**, with imports and report | {whole:,.1f} | 100% | {cpu:,.1f} |"


PEERS = {
    "keras_guide": "the Keras guide's recipe: the base in every epoch",
    "estimator_every_step": "an Estimator with the base in every step",
    "bottlenecks": "bottlenecks once and a head, as retrain.py",
    "pipeline": "this pipeline, with statistics, gates, serving check and report",
}


def peers(rows: Rows) -> Iterator[str]:
    """Other ways to train the same head, side by side."""
    found = {what: of(rows, "peers", what) for what in PEERS}
    if not all(found.values()):
        return
    first = found["pipeline"][0]
    yield f"| {first.images:,} photos of {first.data}, 5 epochs | seconds | CPU s | peak MB | accuracy on test |"
    yield "|---|---:|---:|---:|---:|"
    for what, about in PEERS.items():
        some = found[what]
        cpu, peak = median(row.cpu for row in some), max(row.peak_mb or 0 for row in some)
        accuracy = median(row.value for row in some)
        yield f"| {about} | {_spread(some)} | {cpu:,.0f} | {peak:,} | {accuracy:.1%} |"


def epochs(rows: Rows) -> Iterator[str]:
    """An epoch on stored features over epochs on photos, by what trains."""
    whole = of(rows, "epochs", "everything, photos")
    if not whole:
        return
    yield "| what trains of the base | CPU s of an epoch on features | over one on photos | over one that trains all |"
    yield "|---|---:|---:|---:|"
    everything = median(row.cpu for row in whole)
    for name in ("nothing", "from mixed10", "from mixed9"):
        features, photos = (
            median(row.cpu for row in of(rows, "epochs", f"{name}, {of_what}")) for of_what in ("features", "photos")
        )
        yield f"| {name} | {features:.2f} | {features / photos:.3f} | {features / everything:.3f} |"


DATA = {
    "phones": "photos of 12 megapixels, 299 px",
    "many": "pictures in 10 classes, 75 px",
    "classes": "pictures in 1,000 classes, 4 in each, 75 px",
    "ten": "pictures in 1,000 classes, 10 in each, 75 px",
}


def data(rows: Rows) -> Iterator[str]:
    """What large photos, many pictures and many classes cost, stage by stage."""
    cases = {case: of(rows, case, "run") for case in DATA}
    cases = {case: run for case, run in cases.items() if run}
    if not cases:
        return
    yield "| CPU seconds | " + " | ".join(f"{run[0].images:,} {DATA[case]}" for case, run in cases.items()) + " |"
    yield "|---|" + "---:|" * len(cases)

    def cells(value: Callable[[str], str]) -> str:
        return " | ".join(value(case) for case in cases)

    def used(what: str) -> Callable[[str], str]:
        return lambda case: _cpu(of(rows, case, what, cases[case][0].images))

    for what in dict.fromkeys(row.what for row in rows if row.case in cases and row.what.startswith("stage ")):
        some = [of(rows, case, what, run[0].images) for case, run in cases.items()]
        if any(median(row.cpu for row in found) >= 1 for found in some if found and found[0].cpu is not None):
            yield f"| {what.removeprefix('stage ')} | {cells(used(what))} |"
    yield f"| **whole run, CPU seconds** | {cells(used('run'))} |"
    yield f"| **whole run, seconds** | {cells(lambda case: f'{median(row.wall for row in cases[case]):,.0f}')} |"
    yield f"| **peak memory, MB** | {cells(lambda case: f'{max(row.peak_mb or 0 for row in cases[case]):,}')} |"
    reports = {case: of(rows, case, "report MB", run[0].images) for case, run in cases.items()}
    sizes = {case: f"{median(row.value for row in found):.1f}" if found else "" for case, found in reports.items()}
    yield f"| **report, MB** | {cells(sizes.__getitem__)} |"


BLOCKS: dict[str, Callable[[Rows], Iterator[str]]] = {
    "summary": summary,
    "details": details,
    "floor": bound,
    "line": line,
    "stages": stages,
    "peers": peers,
    "epochs": epochs,
    "data": data,
}


def _near(rows: Rows, images: int) -> list[Row]:
    """The runs of `scale` with as many pictures; else a quarter of the most."""
    counts = {row.images for row in rows if row.case == "scale"}
    return of(rows, "scale", "run", images if images in counts else max(counts, default=0) // 4)


def _over_bare(rows: Rows, case: str) -> str:
    run = of(rows, case, "run")
    bare = of(rows, case, "bare", run[0].images)
    wall, passed = median(row.wall for row in run), median(row.wall for row in bare)
    cpu = median(row.cpu for row in run) / median(row.cpu for row in bare)
    return f"{wall:,.0f} s / {passed:,.0f} s = {_ratio(run, bare)} (CPU {cpu:.2f})"


def _ratio(some: Rows, others: Rows) -> str:
    """The median of the rounds' ratios, and their spread."""
    ratios = [(a.wall or 0) / (b.wall or 1) for a, b in zip(some, others, strict=True)]
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{median(ratios):.2f}{spread}"


def _seconds(some: Rows) -> str:
    spread = f" ({min(row.wall or 0 for row in some):.1f} to {max(row.wall or 0 for row in some):.1f})"
    cpu = median(row.cpu for row in some)
    return f"{median(row.wall for row in some):,.1f} s{spread if len(some) > 1 else ''}, {cpu:,.0f} CPU s"


def _spread(some: Rows, digits: int = 1) -> str:
    walls = [row.wall or 0 for row in some]
    spread = f" ({min(walls):,.{digits}f} to {max(walls):,.{digits}f})" if len(walls) > 1 else ""
    return f"{median(walls):,.{digits}f}{spread}"


def _cpu(some: Rows) -> str:
    return f"{median(row.cpu for row in some):,.0f}" if some and some[0].cpu is not None else ""
