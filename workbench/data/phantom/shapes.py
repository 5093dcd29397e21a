"""Soft-edged shapes in a plane (u, v) of millimetres, float arrays in, float arrays out."""

from __future__ import annotations

import numpy as np


def step(distance: np.ndarray, soft: float) -> np.ndarray:
    """0 outside, 1 inside, smooth over ± `soft`."""
    t = np.clip(distance * np.float32(0.5 / soft) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def ramp(distance: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """0 to 1 in a straight line over ± `half`."""
    return np.clip(distance / (2 * half) + 0.5, 0, 1)


def bell(distance: np.ndarray, width: float) -> np.ndarray:
    """A bump of height 1 with bounded support, close to a Gaussian of the given width."""
    t = np.clip(1 - (distance * np.float32(0.42 / width)) ** 2, 0, 1)
    return t * t * t


def dome(r: np.ndarray, power: float) -> np.ndarray:
    """1 in the middle, 0 from |r| = 1 on; the greater the power, the flatter."""
    return np.sqrt(np.clip(1 - np.abs(r) ** np.float32(power), 0, 1))


def sigmoid(value: np.ndarray) -> np.ndarray:
    """The logistic function without overflow, float32."""
    return (0.5 * (1 + np.tanh(0.5 * value))).astype(np.float32)


def ring(u: np.ndarray, v: np.ndarray, radii: tuple[float, float], line: float, inside: float) -> np.ndarray:
    """A bright outline of an ellipse about (0, 0), `line` mm wide, with a paler inside."""
    ru, rv = radii
    q = np.sqrt((u / np.float32(ru)) ** 2 + (v / np.float32(rv)) ** 2)
    distance = (1 - q) * np.float32(min(ru, rv) * 0.8 + 0.2 * max(ru, rv))
    return bell(distance - line * 0.7, line) + np.float32(inside) * step(distance, line)


def rod(
    u: np.ndarray, v: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> np.ndarray:
    """A round bar between two points: thick in the middle, with a thin wall that shows at its rims."""
    du, dv = end[0] - start[0], end[1] - start[1]
    length = float(np.hypot(du, dv)) + 1e-6
    a, b = np.float32(du / length), np.float32(dv / length)
    p, q = u - np.float32(start[0]), v - np.float32(start[1])
    along = p * a + q * b
    beyond = along - np.clip(along, 0, np.float32(length))
    off = np.sqrt((q * a - p * b) ** 2 + beyond * beyond) / np.float32(radius)
    return np.sqrt(np.clip(1 - off * off, 0, 1)) + 0.4 * bell((0.85 - off) * np.float32(radius), 0.6)
