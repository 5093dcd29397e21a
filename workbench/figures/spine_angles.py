"""Figures of Cobb angles: as the challenge constructs them, and as clinicians read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import plotly.graph_objects as go

from workbench.data.vertebrae import LEVELS, Corners
from workbench.figures._radiograph import Display, draw_radiograph, film_size, radiograph_axes
from workbench.figures._sheet import Panel, Sheet
from workbench.figures._spine_cobb import ANGLES, CURVES, draw_curve, draw_decision, draw_official
from workbench.figures._spine_layers import draw_layers
from workbench.figures._spine_panels import draw_severity, draw_tilts, severity_axes, tilt_axes
from workbench.figures._spine_shapes import angles_of, corners_of, measured
from workbench.figures._spine_traces import scatter
from workbench.spine.angles import CobbAngles, tilts_of
from workbench.spine.clinical import ClinicalAngles, clinical_angles

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction

_HEIGHT = 760

_RULES = {
    "C": "C: all endplate mid-points lie on one side of<br>"
    "the chord. an2 is measured from the top to p,<br>an3 from q to the bottom.",
    "S-upper": "S: endplate mid-points lie on both sides of<br>the chord; p and q in the upper half:<br>"
    "an2 is the largest angle above p,<br>an3 the largest below q.",
    "S-lower": "S: endplate mid-points lie on both sides of<br>the chord; p and q in the lower half:<br>"
    "an2 is the largest angle above p (up to r),<br>an3 the largest above r.",
}


_READING = (
    "Measured from the upper endplate of the upper end<br>vertebra to the lower endplate of the lower one.",
    "Two readers of one film differ by up to 6° to 7°<br>(95 % limits).",
    "Research use, not for diagnosis.",
)


def spine_cobb(
    image: Any,
    prediction: SpinePrediction | Corners,
    truth: Any = None,
    variant: Literal["official", "yi"] = "official",
    display: Display | None = None,
    title: str = "",
) -> go.Figure:
    """The three official angles as they are constructed, and the decision that led to them.

    an1 is drawn with two extended mid-lines, a perpendicular on each and the arc where these cross; an2 and an3 as
    their pairs of mid-lines. The dotted chord and the triangles are the S test, the dashed line is half the image's
    height, and the arrow the mean height of p and q.

    Args:
        image: Grey, (H, W); its height takes part in the rules.
        prediction: What a detector found, or corners (17, 4, 2) in image pixels.
        truth: True corners or a phantom, for comparison.
        variant: ``"official"``, or ``"yi"`` for the rules of the widespread port.
        display: Window, gamma, inversion.
        title: Default: the branch that was taken.

    Raises:
        InvalidInputError: an image that is not grey, or too few vertebrae.
    """
    size, corners = film_size(image), corners_of(prediction)
    true = None if truth is None else corners_of(truth)
    taken = measured(corners, size, true)
    angles = angles_of(taken, size[0], variant)
    sheet = Sheet(
        _HEIGHT, title or f"Official angles, branch {angles.branch}", numbers_text(angles), t=64, l=8
    )
    panel = sheet.panel((0, 0.37), (0, sheet.inner + 36), axes=radiograph_axes(size))
    draw_radiograph(panel, image, display)
    draw_layers(panel, corners, layers=("outlines",))
    draw_decision(panel, taken, angles, size)
    draw_official(panel, taken, angles, size)
    beside = sheet.panel((0.43, 0.66), title="mid-line tilt" + (" (ring: truth)" if truth is not None else ""),
                         axes=tilt_axes(corners, true))  # fmt: skip
    draw_tilts(beside, corners, true)
    draw_pairs(beside, corners, angles)
    write(sheet, 0.70, 1.0, decision_text(angles, corners, size[0]))
    write(
        sheet,
        0.70,
        0.74,
        comparison_text(angles, None if true is None else angles_of(true, size[0], variant)),
    )
    return sheet.build(showlegend=False)


def spine_clinical(
    image: Any,
    prediction: SpinePrediction | Corners,
    truth: Any = None,
    display: Display | None = None,
    title: str = "",
) -> go.Figure:
    """Proximal thoracic, main thoracic and thoracolumbar curve: end vertebrae, apex, Cobb angle, severity.

    Read from one standing film; true Lenke types need bending films. Research use, not for diagnosis.

    Args:
        image: Grey, (H, W).
        prediction: What a detector found, or corners (17, 4, 2) in image pixels.
        truth: True corners or a phantom, for comparison.
        display: Window, gamma, inversion.
        title: Default: severity and type.

    Raises:
        InvalidInputError: an image that is not grey, or fewer than three visible vertebrae.
    """
    size, corners = film_size(image), corners_of(prediction)
    whole = None if truth is None else corners_of(truth)
    found = clinical_angles(measured(corners, size, whole))
    true = None if whole is None else clinical_angles(whole)
    kind = f"Lenke {found.lenke} by threshold" if found.lenke else "no Lenke type by threshold"
    sheet = Sheet(_HEIGHT, title or f"Clinical angles: {found.severity}", kind, t=64, l=8)
    panel = sheet.panel((0, 0.37), (0, sheet.inner + 36), axes=radiograph_axes(size))
    draw_radiograph(panel, image, display)
    draw_layers(panel, corners, layers=("outlines", "levels"))
    for curve in found.curves:
        draw_curve(panel, corners, curve, size)
    draw_severity(sheet.panel((0.52, 1), (10, 240), axes=severity_axes(found, true)), found, true)
    write(sheet, 0.45, 1 - 320 / sheet.inner, clinical_text(found, true is not None))
    return sheet.build(showlegend=False)


def draw_pairs(panel: Panel, corners: Corners, angles: CobbAngles) -> None:
    """On a panel of tilts, what each angle is: the difference between the tilts of two vertebrae."""
    turned = tilts_of(corners)
    for i, pair in reversed(list(enumerate(angles.pairs))):
        panel.draw(
            scatter(
                x=turned[list(pair)].round(2),
                y=list(pair),
                mode="lines+markers",
                showlegend=False,
                line={"color": ANGLES[i], "width": 3},
                marker={"size": 11, "symbol": "diamond", "color": ANGLES[i]},
                hovertemplate=f"an{i + 1} {angles.values[i]:.1f}°: %{{y}}<extra></extra>",
            )
        )


def clinical_text(found: ClinicalAngles, compared: bool = False) -> str:
    """One line a curve, and what limits the reading."""
    lines = [
        f"<span style='color:{ANGLES[CURVES.index(c.name)]}'>◆</span> <b>{c.name}</b> {c.cobb:.1f}°: "
        f"{LEVELS[c.upper]} to {LEVELS[c.lower]}, apex {LEVELS[c.apex]}, convex to the image's {c.convexity}"
        for c in found.curves
    ]
    lines = lines or ["No curve turns by 5° or more."]
    lines += ["", *(["A ring is the true angle."] if compared else []), *_READING]
    return "<br>".join(lines)


def decision_text(angles: CobbAngles, corners: Corners, height: int) -> str:
    """The branch with its reason, in a few short lines."""
    lines = [f"<b>Branch {angles.branch}</b>", _RULES[angles.branch]]
    if angles.branch != "C":
        lower = corners[:, 2:].mean(1)[:, 1]
        mean = (lower[angles.p] + lower[angles.q]) / 2
        lines.append(f"Mean height of p and q: {mean:.0f} of {height} px.")
    ends = {"p": angles.p, "q": angles.q, "r": angles.r}
    lines.append(", ".join(f"{name} = {LEVELS[k]}" for name, k in ends.items() if k is not None))
    return "<br>".join(lines)


def numbers_text(angles: CobbAngles) -> str:
    """The three angles in one line."""
    return ", ".join(f"an{i + 1} {value:.1f}°" for i, value in enumerate(angles.values))


def comparison_text(angles: CobbAngles, true: CobbAngles | None) -> str:
    """Each angle with the vertebrae it lies between, and how far it is from the true one."""
    lines = []
    for i, (value, (a, b)) in enumerate(zip(angles.values, angles.pairs, strict=True)):
        text = f"<span style='color:{ANGLES[i]}'>◆</span> <b>an{i + 1}</b> {value:.1f}° ({LEVELS[a]}–{LEVELS[b]})"
        if true is not None:
            text += f", true {true.values[i]:.1f}°"
        lines.append(text)
    if true is not None and true.branch != angles.branch:
        lines.append(f"The true landmarks take branch {true.branch}.")
    return "<br>".join(lines)


def write(sheet: Sheet, x: float, y: float, text: str) -> None:
    """Lines of text on the page; x and y are fractions from the left and the bottom."""
    place = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top"}
    sheet.annotations.append({"text": text, **place, "align": "left", "font": {"size": 12}})
