"""Places labels beside points so that none covers another label or a point: what finds no free place is left out."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]  #: left, top, right, bottom

#: where a label may stand, in the order tried: direction of its centre from the point, y upwards. A front bends to the lower left: there
#: is most room below it
_PLACES = ((0, -1), (-1, -1), (1, -1), (0, 1), (1, 1), (-1, 1), (-1, 0), (1, 0))


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    gap: float = 5.0,
    segments: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
    downwards: bool = False,
) -> list[tuple[float, float] | None]:
    """The centre of each label, None where no place is free.

    Args: anchors: the labelled points.  sizes: width and height of each label.  obstacles: points that no label may cover.
        bounds: labels stay inside.  segments: lines that labels avoid where they can.
        downwards: y grows downwards, as on a screen. All in one unit of length.
    """
    taken: list[Box] = [(x - gap / 1.5, y - gap / 1.5, x + gap / 1.5, y + gap / 1.5) for x, y in obstacles]
    placed: list[tuple[float, float] | None] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        best: tuple[int, Box, tuple[float, float]] | None = None
        for right, up in _PLACES:
            centre = (x + right * (width / 2 + gap), y + (-up if downwards else up) * (height / 2 + gap))
            box = (centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2)
            if not _inside(box, bounds) or any(_overlap(box, other) for other in taken):
                continue
            crossings = sum(_crosses(box, segment) for segment in segments)
            if best is None or crossings < best[0]:
                best = (crossings, box, centre)
        placed.append(None if best is None else best[2])
        if best is not None:
            taken.append(best[1])
    return placed


def _inside(box: Box, bounds: Box) -> bool:
    return box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _crosses(box: Box, segment: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    """Whether a line passes through the box, looked at in 24 steps: enough for choosing between places."""
    (x0, y0), (x1, y1) = segment
    steps = [index / 24 for index in range(25)]
    return any(box[0] <= x0 + t * (x1 - x0) <= box[2] and box[1] <= y0 + t * (y1 - y0) <= box[3] for t in steps)
