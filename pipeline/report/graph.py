"""Where the boxes and lines of a drawing of the run go: each node below those whose artifacts it read.

Layers by longest path, and in each layer the order that shortens the lines, after Sugiyama, Tagawa and Toda (1981).
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from pipeline.report.facts import Step

_WIDTH, _HEIGHT = 148, 30  # of a box, in the drawing's units
_GAP, _RISE = 18, 34  # between boxes, between layers
_PASSES = 4


@dataclasses.dataclass(frozen=True)
class Box:
    """A node; `x` and `y` are of its centre."""

    name: str
    state: str
    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class Graph:
    """A drawing; `lines` leave the first box at its lower and reach the second at its upper edge."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[tuple[Box, Box]]
    box: tuple[int, int] = (_WIDTH, _HEIGHT)


def layout(steps: Sequence[Step]) -> Graph:
    """Places the nodes of a run.

    Args:
        steps: at least one, in the order in which they ran.
    """
    layers = _layers(steps)
    width = max(len(layer) for layer in layers) * (_WIDTH + _GAP)
    states = {step.node: step.state for step in steps}
    boxes = {
        node: Box(node, states[node], width / len(layer) * (place + 0.5), depth * (_HEIGHT + _RISE) + _HEIGHT / 2 + 2)
        for depth, layer in enumerate(layers)
        for place, node in enumerate(layer)
    }
    lines = [(boxes[source], boxes[step.node]) for step in steps for source in step.sources if source in boxes]
    return Graph(width, len(layers) * (_HEIGHT + _RISE) - _RISE + 4, list(boxes.values()), lines)


def _layers(steps: Sequence[Step]) -> list[list[str]]:
    """Nodes by depth, in an order that puts each near the nodes it is connected to."""
    depth: dict[str, int] = {}
    for step in steps:  # in the order in which they ran: sources come first
        depth[step.node] = 1 + max((depth[source] for source in step.sources if source in depth), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for node, at in depth.items():
        layers[at].append(node)
    near = {step.node: [source for source in step.sources if source in depth] for step in steps}
    for step in steps:
        for source in near[step.node]:
            if depth[source] < depth[step.node]:
                near[source] = [*near[source], step.node]
    for _ in range(_PASSES):
        place = {node: (n + 0.5) / len(layer) for layer in layers for n, node in enumerate(layer)}
        for layer in layers:
            layer.sort(key=lambda node: statistics.mean([place[other] for other in near[node]] or [place[node]]))
    return layers
