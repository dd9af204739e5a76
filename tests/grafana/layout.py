"""Where a dashboard's panels lie: Grafana's grid of 24 columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

COLUMNS = 24
ROW = 30
"""Pixels of one row of the grid."""
GAP = 8
PADDING = 16
HEADER = 48
"""Pixels that the dashboard's title and variables take."""


@dataclass(frozen=True)
class Box:
    """A place on the grid, in columns and rows."""

    x: int
    y: int
    w: int
    h: int

    def meets(self, other: "Box") -> bool:
        across = self.x < other.x + other.w and other.x < self.x + self.w
        return across and self.y < other.y + other.h and other.y < self.y + self.h

    def pixels(self, width: int) -> dict[str, float]:
        """The same on a page so wide."""
        column = (width - 2 * PADDING - (COLUMNS - 1) * GAP) / COLUMNS
        return {
            "x": PADDING + self.x * (column + GAP),
            "y": HEADER + self.y * (ROW + GAP),
            "width": self.w * column + (self.w - 1) * GAP,
            "height": self.h * ROW + (self.h - 1) * GAP,
        }


def arrange(panels: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Box]]:
    """Panels and headings of rows with their places: collapsed rows opened, all as far up as they can be."""
    placed: list[tuple[Mapping[str, Any], Box]] = []
    for panel, wanted in sorted(_opened(panels), key=lambda item: (item[1].y, item[1].x)):
        box = wanted
        taken = [other for _, other in placed]
        while any(box.meets(other) for other in taken):
            box = replace(box, y=box.y + 1)
        while box.y > 0 and not any(replace(box, y=box.y - 1).meets(other) for other in taken):
            box = replace(box, y=box.y - 1)
        placed.append((panel, box))
    return placed


def height(boxes: Sequence[Box]) -> int:
    """Pixels of the whole page."""
    rows = max((box.y + box.h for box in boxes), default=1)
    return HEADER + rows * (ROW + GAP) - GAP + PADDING


def _opened(panels: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Box]]:
    pushed = 0
    for panel in panels:
        box = _box(panel, pushed)
        yield panel, box
        if panel["type"] != "row" or not panel.get("panels"):
            continue
        inner = [(nested, _box(nested, 0)) for nested in panel["panels"]]
        top = min(place.y for _, place in inner)
        for nested, place in inner:
            yield nested, replace(place, y=place.y - top + box.y + 1)
        pushed += max(place.y + place.h for _, place in inner) - top


def _box(panel: Mapping[str, Any], pushed: int) -> Box:
    place = panel.get("gridPos") or {}
    if panel["type"] == "row":
        return Box(0, place.get("y", 0) + pushed, COLUMNS, 1)
    return Box(place.get("x", 0), place.get("y", 0) + pushed, place.get("w", 12), place.get("h", 8))
