"""The posterior parts of a vertebra: pedicles, laminae, spinous, transverse and articular processes.

All lie behind the body, so axial rotation shifts them sideways. Source: specification, sections 7.2 to 7.4; sizes are
rough and chosen to look like films.
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.looks import Look, Own
from workbench.data.phantom.scene import Body
from workbench.data.phantom.shapes import ring, rod


def draw_posterior(u: np.ndarray, v: np.ndarray, body: Body, look: Look, own: Own) -> np.ndarray:
    """Attenuation of the parts behind the body at local coordinates in mm, float32."""
    dense = np.float32(look.density * own.density)
    out = np.zeros_like(u)
    for i, s in enumerate((-1, 1)):
        at, jitter = _pedicle(body, s), own.process[i]
        out += _pedicle_ring(u, v, body, at, look, own.pedicles[i], dense)
        out += _transverse(u, v, body, s, at, jitter) * dense
        out += _facet(u, v, body, s, at[0], jitter) * dense
    out += _spinous(u, v, body, look, own) * dense
    return out.astype(np.float32)


def _lumbar(body: Body) -> float:
    """0 in the chest, 1 in the loin."""
    return float(np.clip((body.level - 9) / 4, 0, 1))


def _pedicle(body: Body, s: int) -> tuple[float, float]:
    """Centre of the left (s = −1) or right pedicle; where the vertebra leans, it moves up or down."""
    turn, flat = np.sin(body.rotation), np.cos(body.rotation)
    lean = (body.leans[0] + body.leans[1]) / 2
    rear = body.depth * 0.75
    cu = s * body.width * (0.335 - 0.03 * (body.level < 0)) * flat - (0.55 * body.depth + 3) * turn
    cv = -body.height * (0.12 + 0.06 * (1 - _lumbar(body))) + 0.5 * rear * np.sin(lean) * 0.4
    return cu, cv


def _pedicle_ring(
    u: np.ndarray,
    v: np.ndarray,
    body: Body,
    at: tuple[float, float],
    look: Look,
    own: np.ndarray,
    dense: np.float32,
) -> np.ndarray:
    radii = body.width * 0.085 * own[0], body.height * (0.27 + 0.03 * _lumbar(body)) * own[1]
    return np.float32(look.ring) * own[2] * dense * ring(u - at[0], v - at[1], radii, look.line, look.marrow)


def _transverse(
    u: np.ndarray, v: np.ndarray, body: Body, s: int, at: tuple[float, float], jitter: np.ndarray
) -> np.ndarray:
    lumbar = _lumbar(body)
    share, short = 0.42 if body.level < 12 else 0.5, 0.25 * (9 < body.level < 12)
    length = body.width * share * (1 + 0.1 * jitter[0]) * (1 - short)
    up = -0.18 * (1 - lumbar) - 0.06 * lumbar + 0.08 * jitter[1]
    end = (at[0] + s * length, at[1] + up * length)
    thick = body.height * (0.17 - 0.03 * lumbar) * (1 + 0.1 * jitter[2])
    return np.float32(0.13 - 0.05 * lumbar) * rod(u, v, at, end, thick)


def _facet(u: np.ndarray, v: np.ndarray, body: Body, s: int, cu: float, jitter: np.ndarray) -> np.ndarray:
    """The articular column: a rod from the joint above to the joint below."""
    w, h, lumbar = body.width, body.height, _lumbar(body)
    near = cu - s * 0.04 * w
    upper = (near + s * 0.03 * w, -h * (0.55 + 0.05 * jitter[3]))
    lower = (near - s * 0.05 * w, h * (0.62 + 0.05 * jitter[2]))
    return np.float32(0.06 + 0.10 * lumbar) * rod(u, v, upper, lower, w * (0.075 + 0.02 * lumbar))


def _spinous(u: np.ndarray, v: np.ndarray, body: Body, look: Look, own: Own) -> np.ndarray:
    """A teardrop on the midline, hanging to the disc below in the chest, with the laminae as a roof."""
    w, h, lumbar, turn = body.width, body.height, _lumbar(body), np.sin(body.rotation)
    cu, cv = -(body.depth * 0.9 + 10) * turn, h * (0.45 - 0.18 * lumbar)
    long, tip = h * (0.36 - 0.02 * lumbar) * own.spinous[0], w * 0.075 * own.spinous[1]
    uu, vv = u - np.float32(cu) - np.float32(own.lean) * (v - np.float32(cv)), v - np.float32(cv)
    narrow = 0.62 + 0.38 * np.clip(vv / np.float32(long), -1, 1)
    drop = ring(uu / narrow.clip(0.25), vv, (tip, long), look.line, look.marrow)
    roof = np.zeros_like(u)
    for s in (-1, 1):
        start = (cu + s * 0.05 * w, cv - 0.55 * long)
        end = (s * 0.27 * w - 0.7 * body.depth * turn, -0.05 * h)
        roof += rod(u, v, start, end, h * 0.2)
    return drop * np.float32(look.spinous * own.spinous[2]) + np.float32(0.06 + 0.14 * lumbar) * roof
