"""What a run should know about its machine before it begins: whether memory suffices, and whether a GPU lies idle."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

NEEDED_MB = 2_000
"""Of memory for a run with small images, the process of the serving check included (docs/operating.md)."""

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_GPUS = ("/dev/nvidia0", "/dev/dxg")  # of Linux, and of WSL


def notes_on_memory() -> Iterator[str]:
    """A warning if there is less memory than a small run needs; without it, the system would kill the run silently."""
    free = available_mb()
    if free is not None and free < NEEDED_MB:
        yield (
            f"{free:,} MB of memory are free for this run, and even one with small images takes {NEEDED_MB:,} MB; if "
            "it is killed, give the machine or container more, or lower runtime.feature_batch_size, "
            "training.batch_size or backbone.image_size"
        )


def notes_on_gpu() -> list[str]:
    """A warning if there is a GPU that TensorFlow, which this imports, cannot use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not any(map(os.path.exists, _GPUS)):
        return []
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return []
    return [
        "this machine has an NVIDIA GPU that TensorFlow cannot use, so all is computed on the CPU; its libraries are "
        "the extra gpu (docs/gpu.md)"
    ]


def stages_at_once() -> int:
    """How many stages may run side by side: two, where memory suffices; the pipeline never has more that could."""
    free = available_mb()
    return 2 if free is None or free >= 2 * NEEDED_MB else 1


def available_mb() -> int | None:
    """The memory that this process and its children can still use, as limited by machine, container and `ulimit -v`.

    None on systems other than Linux.
    """
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
    except OSError:
        return None
    known = dict(line.split(":", 1) for line in lines)
    free = [int(known["MemAvailable"].split()[0]) * 1024, *_free_in_containers()]
    virtual, _ = resource.getrlimit(resource.RLIMIT_AS)
    if virtual != resource.RLIM_INFINITY:
        free.append(virtual)
    return min(free) // 2**20


def _free_in_containers() -> Iterator[int]:
    """Free bytes in this process's control groups (version 1 or 2); the page cache counts as free."""
    for line in (_PROC / "self" / "cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "memory":
            root, limit, used, cache = _CGROUPS / "memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"
        elif not controllers:
            root, limit, used, cache = _CGROUPS, "max", "current", "inactive_file"
        else:
            continue
        group = root / name.strip("/")
        for folder in (group, *group.parents):  # a container often sees its own group as the root
            if folder.is_relative_to(root) and (folder / f"memory.{limit}").is_file():
                most = (folder / f"memory.{limit}").read_text().strip()
                if most != "max":
                    counts = dict(one.split() for one in (folder / "memory.stat").read_text().splitlines())
                    yield int(most) - int((folder / f"memory.{used}").read_text()) + int(counts.get(cache, 0))
