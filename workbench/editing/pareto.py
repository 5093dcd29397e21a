"""How good a trade-off an editor offers: the means of its sweep, their Pareto front, and the area under it.

An editor's sweep gives points (GR, LR). Two more are free to every editor: (0, 1), leaving the model alone, and
(1, 0), answering the wanted class to everything. Between two points a user may choose by lot and gets, on average,
what lies on the line between them. So the **area** of a sweep is the area under the upper concave hull of its points
and the two free ones, over GR in [0, 1]: at least 0.5, at most 1, and never lowered by one more setting. Both ends
being there, editors with gentle and with strong sweeps are measured on one scale. The **hypervolume** is the stricter
form without lots or free points: the area of what is no better than some point of the sweep in both quantities.

Intervals are percentiles over draws of whole groups with replacement; every editor sees the same draws, so that
differences are paired. Of one group there is nothing to draw: its intervals have no width and say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from workbench.errors import InvalidInputError, UnknownNameError

#: One row an edit: what `workbench.editing.sweeps` measures.
COLUMNS = ("editor", "position", "setting", "group", "sr", "gr", "lr", "steps")

_KEYS = ["editor", "position", "setting"]
_QUANTITIES = ("sr", "gr", "lr")


def pareto_front(gr: Sequence[float] | np.ndarray, lr: Sequence[float] | np.ndarray) -> list[int]:
    """Positions of the points that no other point is at least as good as in both quantities, by increasing GR.

    Of equal points the first is kept.

    Example:
        >>> pareto_front([0.2, 0.5, 0.4], [0.9, 0.7, 0.6])
        [0, 1]
    """
    x, y = _points(gr, lr)
    best, found = -np.inf, []
    for i in sorted(range(len(x)), key=lambda i: (-x[i], -y[i], i)):
        if y[i] > best:
            best = y[i]
            found.append(i)
    return found[::-1]


def front_area(gr: Sequence[float] | np.ndarray, lr: Sequence[float] | np.ndarray) -> float:
    """Area under the upper concave hull of the points, (0, 1) and (1, 0), in [0.5, 1].

    Args:
        gr: Generalization of each setting, in [0, 1].
        lr: Locality of each setting, in [0, 1].

    Raises:
        InvalidInputError: not as many of one as of the other, or values outside [0, 1].

    Example:
        >>> front_area([0.8], [0.9])
        0.85
    """
    x, y = _points(gr, lr)
    hull: list[tuple[float, float]] = []
    for point in sorted([(0.0, 1.0), (1.0, 0.0), *zip(x.tolist(), y.tolist(), strict=True)]):
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    corners = np.array(hull)
    widths, heights = np.diff(corners[:, 0]), (corners[1:, 1] + corners[:-1, 1]) / 2
    return round(float(widths @ heights), 12)


def hypervolume(gr: Sequence[float] | np.ndarray, lr: Sequence[float] | np.ndarray) -> float:
    """Area of all (GR, LR) that some point is at least as good as in both quantities, in [0, 1].

    Example:
        >>> hypervolume([0.5, 1.0], [1.0, 0.5])
        0.75
    """
    x, y = _points(gr, lr)
    front = pareto_front(x, y)
    widths = np.diff(x[front], prepend=0.0)
    return round(float(widths @ y[front]), 12)


def sweep_means(rows: pd.DataFrame, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """Mean SR, GR and LR of every setting of every editor, with 95 % intervals over groups.

    Args:
        rows: One row an edit, with the columns of `COLUMNS`. GR may be missing where a group has one image.
        seed: Of the draws.
        draws: How many.

    Returns:
        One row a setting, in the order of the rows and of the sweep: ``editor``, ``position``, ``setting``, ``edits``,
        ``steps``, and for each quantity its mean and ``_low`` and ``_high``.

    Raises:
        InvalidInputError: a column is missing, there are no rows, or settings were measured on other groups.
    """
    sums = _GroupSums(rows)
    picks = sums.draw(seed, draws)
    table = sums.cells.copy()
    for name in _QUANTITIES:
        low, high = np.nanpercentile(sums.means(name, picks), [2.5, 97.5], axis=0)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = sums.means(name)[0], low, high
    return table.round(6)


def front_areas(
    rows: pd.DataFrame, reference: str | None = None, seed: int = 0, draws: int = 1000
) -> pd.DataFrame:
    """Area under every editor's front, with 95 % intervals over groups and paired differences to one of them.

    Args:
        rows: One row an edit, with the columns of `COLUMNS`.
        reference: The editor that the others are compared with; None for no comparison.
        seed: Of the draws.
        draws: How many.

    Returns:
        One row an editor, the largest area first: ``editor``, ``area``, ``area_low``, ``area_high``,
        ``hypervolume``, and with a reference ``difference`` (the reference's area minus this one's),
        ``difference_low`` and ``difference_high``.

    Raises:
        InvalidInputError: as for `sweep_means`.
        UnknownNameError: the reference is not among the editors.

    Example:
        >>> front_areas(rows, reference="learned-mask").iloc[0]["editor"]
        'learned-mask'
    """
    sums = _GroupSums(rows)
    editors = list(dict.fromkeys(sums.cells["editor"]))
    if reference is not None and reference not in editors:
        raise UnknownNameError("editor", reference, editors)
    picks = sums.draw(seed, draws)
    drawn = {name: sums.means(name, picks) for name in ("gr", "lr")}
    mean = {name: sums.means(name)[0] for name in ("gr", "lr")}
    areas, found = {}, []
    for editor in editors:
        own = (sums.cells["editor"] == editor).to_numpy()
        areas[editor] = np.array(
            [front_area(g, p) for g, p in zip(drawn["gr"][:, own], drawn["lr"][:, own], strict=True)]
        )
        gr, lr = mean["gr"][own], mean["lr"][own]
        found.append(
            {"editor": editor, "area": front_area(gr, lr), "hypervolume": hypervolume(gr, lr)}
            | _interval("area", areas[editor])
        )
    table = pd.DataFrame(found)
    if reference is not None:
        centre = table.loc[table["editor"] == reference, "area"].iloc[0]
        apart = pd.DataFrame([_interval("difference", areas[reference] - areas[e]) for e in editors])
        table = pd.concat([table.assign(difference=centre - table["area"]), apart], axis=1)
    return table.round(6).sort_values("area", ascending=False, kind="stable", ignore_index=True)


def verdict(areas: pd.DataFrame, reference: str, titles: Mapping[str, str] | None = None) -> str:
    """One sentence: which editor leads, and whether it can be told from the reference, or from the runner-up.

    Args:
        areas: As `front_areas` gives them, with differences to `reference`. Other editors may have been taken out.
        reference: The editor that the others are compared with.
        titles: Names, by editor.

    Raises:
        UnknownNameError: the reference is not among the editors.

    Example:
        >>> verdict(front_areas(rows, "learned-mask"), "learned-mask")
        'learned-mask leads (0.812), 0.021 ahead of ft (95 % interval 0.004 to 0.038)'
    """
    listed = list(areas["editor"])
    if reference not in listed:
        raise UnknownNameError("editor", reference, listed)
    named = {editor: (titles or {}).get(editor, editor) for editor in listed}
    ordered = areas.sort_values("area", ascending=False, kind="stable").to_dict("records")
    first = ordered[0]
    lead = f"{named[first['editor']]} leads ({first['area']:.3f})"
    if len(ordered) == 1:
        return f"{lead}, the only one"
    wins = first["editor"] == reference
    other = ordered[1] if wins else first
    low, high = other["difference_low"], other["difference_high"]
    low, high = (low, high) if wins else (-high, -low)
    behind = named[other["editor"] if wins else reference]
    text = f"{lead}, {abs(other['difference']):.3f} ahead of {behind} (95 % interval {low:.3f} to {high:.3f})"
    return text if low > 0 else f"{text}: they cannot be told apart"


class _GroupSums:
    """Sums and counts of every quantity by setting and group, so that a draw of groups costs a matrix product."""

    def __init__(self, rows: pd.DataFrame) -> None:
        missing = [name for name in COLUMNS if name not in rows.columns]
        if missing or rows.empty:
            raise InvalidInputError(
                f"rows of edits have the columns {', '.join(COLUMNS)}; these are {len(rows)} rows and lack "
                f"{', '.join(missing) or 'nothing'}"
            )
        by_cell = rows.groupby(_KEYS, sort=False)
        self.groups = sorted(rows["group"].unique())
        for key, part in by_cell:
            absent = sorted(set(self.groups) - set(part["group"]))
            if absent:
                raise InvalidInputError(
                    f"{key[0]} at {key[2]!r} was not measured on {len(absent)} of {len(self.groups)} groups, such as "
                    f"{absent[0]!r}; every setting needs the same groups, so that they can be compared"
                )
        order = {editor: i for i, editor in enumerate(rows["editor"].unique())}
        cells = by_cell.agg(edits=("sr", "size"), steps=("steps", "mean")).reset_index()
        ranks = cells["editor"].map(order)
        self.cells = cells.assign(rank=ranks).sort_values(["rank", "position"]).drop(columns="rank")
        self.cells = self.cells.reset_index(drop=True)
        keys = pd.MultiIndex.from_frame(self.cells[_KEYS])
        self._sums, self._counts = {}, {}
        for name in _QUANTITIES:
            values = rows.assign(value=pd.to_numeric(rows[name]))
            table = values.groupby([*_KEYS, "group"])["value"].agg(["sum", "count"]).unstack("group")
            table = table.loc[keys]
            self._sums[name] = table["sum"][self.groups].to_numpy()
            self._counts[name] = table["count"][self.groups].to_numpy()

    def draw(self, seed: int, draws: int) -> np.ndarray:
        """How often each group is drawn, (draws, groups)."""
        count = len(self.groups)
        picks = np.random.default_rng(seed).integers(count, size=(draws, count))
        return (picks[:, :, None] == np.arange(count)).sum(axis=1)

    def means(self, name: str, picks: np.ndarray | None = None) -> np.ndarray:
        """Means over edits of each setting, (draws, settings); one row of all groups without draws."""
        weights = np.ones((1, len(self.groups))) if picks is None else picks
        with np.errstate(invalid="ignore"):  # a draw without any defined value has no mean
            means: np.ndarray = (weights @ self._sums[name].T) / (weights @ self._counts[name].T)
        return means


def _interval(name: str, values: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _points(
    gr: Sequence[float] | np.ndarray, lr: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(gr, dtype=float), np.asarray(lr, dtype=float)
    inside = x.ndim == 1 and x.shape == y.shape and len(x) and bool(((x >= 0) & (x <= 1)).all())
    if not inside or not ((y >= 0) & (y <= 1)).all():
        raise InvalidInputError(
            f"a front needs GR and LR of at least one setting, as many of each, in [0, 1]; these are {x.tolist()} "
            f"and {y.tolist()}"
        )
    return x, y


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Above 0 where the way from a over b to c turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
