"""Cobb angles as they are constructed: extended lines, perpendiculars, the arc between them, and the decision path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.vertebrae import LEVELS, Corners, centres_of
from workbench.figures._sheet import Panel
from workbench.figures._spine_layers import ON_FILM, WHITE
from workbench.figures._spine_shapes import mid_lines, mid_points, widths, xy
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures._theme import ORANGE, PINK, SKY

if TYPE_CHECKING:
    from workbench.spine.angles import CobbAngles
    from workbench.spine.clinical import Curve

#: Colours of an1, an2, an3.
ANGLES = (ORANGE, SKY, PINK)
#: Clinical curves in the order of the same colours: the main thoracic one has the first.
CURVES = ("MT", "PT", "TL")
#: The same for text on a film.
ON_DARK = ("#FFC24D", "#9AD4F6", "#F4BBDA")
_ARC_STEPS = 24


def draw_official(panel: Panel, corners: Corners, angles: CobbAngles, size: tuple[int, int]) -> None:
    """The three official angles: an1 as the classic construction, an2 and an3 as their pairs of mid-lines."""
    labels = [f"an{i + 1} {value:.1f}°" for i, value in enumerate(angles.values)]
    for i in (2, 1):
        _draw_pair(panel, corners, angles.pairs[i], angles.pairs[0], labels[i], i)
    left, right = mid_points(corners)
    lines = [(left[k], right[k]) for k in angles.pairs[0]]
    draw_construction(panel, lines, labels[0], ANGLES[0], ON_DARK[0], size)
    _draw_ends(panel, corners, angles, 1 if _opens_left(lines) else -1)


def draw_construction(
    panel: Panel,
    lines: list[tuple[np.ndarray, np.ndarray]],
    label: str,
    colour: str,
    text_colour: str,
    size: tuple[int, int],
) -> None:
    """Two lines extended to the hollow side, a perpendicular on each, and the arc where the perpendiculars cross.

    Args:
        panel: With `radiograph_axes`.
        lines: The upper and the lower line, each as its left and right end.
        label: Written over the upper line's end.
        colour: Of the lines.
        text_colour: Of the label.
        size: Height and width of the image.
    """
    meet = _meeting_point(lines, size)
    feet = [_foot(meet, *line) for line in lines]
    extended = [_reaching(line, foot) for line, foot in zip(lines, feet, strict=True)]
    arc = _arc(meet, feet[0] - meet, meet - feet[1])
    panel.draw(_stroke(_joined([*extended, arc]), colour, 2.5, label))
    panel.draw(_stroke(_joined([_beyond(foot, meet) for foot in feet]), colour, 1.5, label, dash="dash"))
    place = "top right" if _opens_left(lines) else "top left"
    end = extended[0][1].clip([0.02 * size[1], 0.035 * size[0]], [0.98 * size[1], size[0]])
    panel.draw(_text(end[None], [f"<b>{label}</b>"], place, text_colour))


def _opens_left(lines: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether the two lines come together on the left: there is the hollow side of the curve."""
    (a, b), (c, d) = lines
    upper, lower = b - a, d - c
    return bool(upper[0] * lower[1] - upper[1] * lower[0] > 0)


def _meeting_point(lines: list[tuple[np.ndarray, np.ndarray]], size: tuple[int, int]) -> np.ndarray:
    """Where the perpendiculars cross: half-way between the lines, beside the spine, well before the lines meet."""
    middles = [(start + end) / 2 for start, end in lines]
    middle = (middles[0] + middles[1]) / 2
    reach = 1.9 * float(np.mean([np.linalg.norm(end - start) for start, end in lines]))
    side = -1 if _opens_left(lines) else 1
    crossing = _crossing(lines)
    if crossing is not None and (crossing[0] - middle[0]) * side > 0:
        reach = min(reach, 0.6 * abs(crossing[0] - middle[0]))
    margin = 0.08 * size[1]
    return np.array([np.clip(middle[0] + side * reach, margin, size[1] - margin), middle[1]])


def _crossing(lines: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """Where two lines meet; None for parallels."""
    (a, b), (c, d) = lines
    steps = np.stack([b - a, c - d], axis=1)
    if abs(np.linalg.det(steps)) < 1e-9:
        return None
    return np.asarray(a + np.linalg.solve(steps, c - a)[0] * (b - a))


def _foot(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The foot of the perpendicular from a point to the line through two points."""
    along = (end - start) / np.linalg.norm(end - start)
    return np.asarray(start + ((point - start) @ along) * along)


def _reaching(line: tuple[np.ndarray, np.ndarray], foot: np.ndarray) -> np.ndarray:
    """The line from its far end to a little beyond the foot."""
    start, end = line
    far = start if np.linalg.norm(start - foot) > np.linalg.norm(end - foot) else end
    return np.stack([far, foot + 0.12 * (foot - far)])


def _beyond(foot: np.ndarray, meet: np.ndarray) -> np.ndarray:
    """The perpendicular from the foot through the crossing and on by a third."""
    return np.stack([foot, meet + 0.35 * (meet - foot)])


def _arc(centre: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shorter arc about a point from one direction to another, (n, 2)."""
    radius = 0.30 * min(np.linalg.norm(start), np.linalg.norm(end))
    first, last = np.arctan2(start[1], start[0]), np.arctan2(end[1], end[0])
    turn = (last - first + np.pi) % (2 * np.pi) - np.pi
    angle = first + np.linspace(0, turn, _ARC_STEPS)
    return np.asarray(centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _draw_pair(
    panel: Panel, corners: Corners, pair: tuple[int, int], first: tuple[int, int], label: str, number: int
) -> None:
    """The mid-lines of two vertebrae, longer than the bodies; the one that is not p or q carries the label."""
    lines = mid_lines(corners[list(pair)], 0.75)
    panel.draw(_stroke(lines, ANGLES[number], 2, label))
    own = [i for i, level in enumerate(pair) if level not in first]
    places, texts = lines[[3 * i for i in own[:1]]].reshape(-1, 2), [label][: len(own)]
    half = 1.1 * float(np.nanmean(widths(corners)))  # of the label, about
    places[:, 0] = places[:, 0].clip(min=half)
    panel.draw(_text(places, texts, "top center", ON_DARK[number]))


def _draw_ends(panel: Panel, corners: Corners, angles: CobbAngles, side: int) -> None:
    """The names of the end vertebrae p, q and, where it decides, r; on the side where an1 is not drawn."""
    named = {"p": angles.p, "q": angles.q, "r": angles.r}
    given = {name: level for name, level in named.items() if level is not None}
    ends = mid_points(corners)[0 if side < 0 else 1][list(given.values())]
    places = ends + np.array([0.25 * side * float(np.nanmean(widths(corners))), 0])
    texts = [f"<b>{name} {LEVELS[level]}</b>" for name, level in given.items()]
    panel.draw(_text(places, texts, "bottom left" if side < 0 else "bottom right", WHITE))


def draw_curve(panel: Panel, corners: Corners, curve: Curve, size: tuple[int, int]) -> None:
    """A clinical curve: the outer endplates of its end vertebrae, the angle between them, and its apex."""
    i = CURVES.index(curve.name)
    upper, lower = corners[curve.upper], corners[curve.lower]
    lines = [(upper[0], upper[1]), (lower[2], lower[3])]
    draw_construction(panel, lines, f"{curve.name} {curve.cobb:.1f}°", ANGLES[i], ON_DARK[i], size)
    apex = centres_of(corners)[[curve.apex]]
    marker = {"symbol": "diamond", "size": 12, "color": ANGLES[i], "line": {"color": WHITE, "width": 1}}
    text = f"apex of {curve.name}: {LEVELS[curve.apex]}, convex to the image's {curve.convexity}"
    panel.draw(
        scatter(
            **xy(apex),
            mode="markers",
            marker=marker,
            showlegend=False,
            hovertemplate=f"{text}<extra></extra>",
        )
    )


def draw_decision(panel: Panel, corners: Corners, angles: CobbAngles, size: tuple[int, int]) -> None:
    """What decides the branch: the chord of the S test with the endplate mid-points, and the image's half height."""
    height, width = size
    first, last = angles.levels
    points = corners.reshape(34, 2, 2).mean(1)
    chord = points[[2 * first, 2 * last + 1]]
    panel.draw(_stroke(chord, WHITE, 1, "chord", dash="dot"))
    tested = points[2 * first : 2 * last]  # the last vertebra is left out
    side = np.sign(_beside(tested, chord))
    for sign, symbol in ((1, "triangle-left"), (-1, "triangle-right")):
        chosen = tested[side == sign]
        panel.draw(_marks(chosen, symbol, "left of the chord" if sign > 0 else "right of the chord"))
    half = np.array([[0, height / 2], [width - 1, height / 2]])
    panel.draw(_stroke(half, WHITE, 1, "half height", dash="dash"))
    mean = points[[2 * angles.p + 1, 2 * angles.q + 1], 1].mean()
    left, right = mid_points(corners)
    if _opens_left([(left[k], right[k]) for k in angles.pairs[0]]):  # an1 is drawn there
        edge, mark, side = 0.99 * width, "p, q ◂", "left"
    else:
        edge, mark, side = 0.01 * width, "▸ p, q", "right"
    order = ("bottom", "middle") if mean < height / 2 else ("top", "middle")  # they may lie close together
    anchors = [f"{up} {side}" for up in order]
    panel.draw(_text(np.array([[edge, height / 2], [edge, mean]]), ["H/2", mark], anchors, WHITE))


def _beside(points: np.ndarray, chord: np.ndarray) -> np.ndarray:
    """Positive where a point lies to the left of the chord in the image."""
    (x1, y1), (x2, y2) = chord
    if y1 == y2:
        return np.zeros(len(points))
    return np.asarray(x2 + (points[:, 1] - y2) / (y1 - y2) * (x1 - x2) - points[:, 0])


def _joined(lines: list[np.ndarray]) -> np.ndarray:
    gap = np.full((1, 2), np.nan)
    return np.concatenate([part for line in lines for part in (line, gap)])


def _stroke(points: np.ndarray, colour: str, width: float, name: str, **line: Any) -> Trace:
    style = {"color": colour, "width": width, **line}
    return scatter(**xy(points), mode="lines", line=style, name=name, showlegend=False, hoverinfo="skip")


def _text(points: np.ndarray, texts: list[str], position: str | list[str], colour: str) -> Trace:
    font = {**ON_FILM, "color": colour, "size": 13}
    return scatter(
        **xy(points), mode="text", text=texts, textposition=position, textfont=font, showlegend=False, hoverinfo="skip"
    )  # fmt: skip


def _marks(points: np.ndarray, symbol: str, name: str) -> Trace:
    marker = {"symbol": symbol, "size": 6, "color": WHITE, "opacity": 0.9}
    return scatter(
        **xy(points), mode="markers", marker=marker, showlegend=False, hovertemplate=f"{name}<extra></extra>"
    )  # fmt: skip
