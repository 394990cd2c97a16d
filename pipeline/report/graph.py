"""Lays out a drawing of the run: each node below those whose artifacts it read.

Layers follow from the longest path, and the order in each layer shortens the lines, after Sugiyama, Tagawa and Toda
(1981).
"""

from __future__ import annotations

import dataclasses
import graphlib
import statistics
from collections.abc import Mapping, Sequence

from pipeline.runs.lineage import NodeRun

_WIDTH, _HEIGHT = 148, 30  # of a box, in the drawing's units
_GAP, _RISE = 18, 34  # between boxes, between layers
_PASSES = 4


@dataclasses.dataclass(frozen=True)
class Box:
    """A node; `x` and `y` are of its center."""

    name: str
    state: str
    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class Graph:
    """A drawing; `lines` go from the lower edge of the first box to the upper edge of the second."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[tuple[Box, Box]]
    box: tuple[int, int] = (_WIDTH, _HEIGHT)


def layout(nodes: Sequence[NodeRun]) -> Graph:
    """Places the nodes of a run, given in the order in which they ran; there must be at least one."""
    sources = _sources(nodes)
    layers = _layers(sources)
    width = max(len(layer) for layer in layers) * (_WIDTH + _GAP)
    states = {node.id: node.state for node in nodes}
    boxes = {
        node: Box(node, states[node], width / len(layer) * (place + 0.5), depth * (_HEIGHT + _RISE) + _HEIGHT / 2 + 2)
        for depth, layer in enumerate(layers)
        for place, node in enumerate(layer)
    }
    lines = [(boxes[source], boxes[node]) for node, read in sources.items() for source in read]
    return Graph(width, len(layers) * (_HEIGHT + _RISE) - _RISE + 4, list(boxes.values()), lines)


def _sources(nodes: Sequence[NodeRun]) -> dict[str, list[str]]:
    """For each node, those whose artifacts it read; a cached one may output what a resolver found before it."""
    made_by: dict[int, str] = {}
    found = {}
    for node in nodes:
        read = sorted({artifact.id for group in node.inputs.values() for artifact in group})
        found[node.id] = list(dict.fromkeys(made_by[number] for number in read if number in made_by))
        made_by |= {artifact.id: node.id for group in node.outputs.values() for artifact in group}
    return found


def _layers(sources: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Nodes by depth, ordered so that each is near the nodes it is connected to."""
    sorter = graphlib.TopologicalSorter(sources)
    sorter.prepare()
    layers: list[list[str]] = []
    while sorter.is_active():
        layers.append(sorted(sorter.get_ready(), key=list(sources).index))
        sorter.done(*layers[-1])
    readers = {node: [other for other, read in sources.items() if node in read] for node in sources}
    near = {node: [*read, *readers[node]] for node, read in sources.items()}
    for _ in range(_PASSES):
        place = {node: (n + 0.5) / len(layer) for layer in layers for n, node in enumerate(layer)}
        for layer in layers:
            layer.sort(key=lambda node: statistics.mean([place[other] for other in near[node]] or [place[node]]))
    return layers
