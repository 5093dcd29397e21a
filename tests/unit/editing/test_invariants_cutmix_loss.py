"""Invariants 23 and 24 of the method's specification: pseudo-failures, and the distance they are repaired by."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from workbench.editing import cutmix
from workbench.editing.cutmix import default_sides
from workbench.editing.losses import TEMPERATURE, distillation
from workbench.errors import InvalidInputError


def pair(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Hosts in [0, 0.5), donors in [0.5, 1): every pixel says where it is from."""
    generator = torch.Generator().manual_seed(0)
    hosts = torch.rand(count, 3, height, width, generator=generator) / 2
    return hosts, torch.rand(count, 3, height, width, generator=generator) / 2 + 0.5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


grids = st.tuples(st.integers(1, 6), st.integers(1, 6))
patches = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(grids, patches, st.integers(0, 2**31), st.data())
def test_inv23_a_patch_aligned_rectangle_of_the_donor_at_its_own_place(
    grid: tuple[int, int], patch: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    low = data.draw(st.integers(1, min(grid)))
    high = data.draw(st.integers(low, min(grid)))
    hosts, donors = pair(3, grid[0] * patch[0], grid[1] * patch[1])
    kept = hosts.clone(), donors.clone()
    mixed = cutmix(hosts, donors, patch, seeded(seed), sides=(low, high))
    assert torch.equal(hosts, kept[0])
    assert torch.equal(donors, kept[1])
    assert mixed.patch == patch
    for i in range(3):
        top, left, height, width = mixed.rectangles[i].tolist()
        assert low <= height <= high
        assert low <= width <= high
        assert 0 <= top <= grid[0] - height
        assert 0 <= left <= grid[1] - width
        inside = torch.zeros(grid[0] * patch[0], grid[1] * patch[1], dtype=torch.bool)
        inside[top * patch[0] : (top + height) * patch[0], left * patch[1] : (left + width) * patch[1]] = True
        assert torch.equal(mixed.images[i], torch.where(inside, donors[i], hosts[i]))
        assert float(mixed.area[i]) == pytest.approx(inside.double().mean().item())


@pytest.mark.parametrize("reach_last", [True, False])
def test_inv23_every_patch_can_be_covered_but_not_the_last_in_the_published_range(reach_last: bool) -> None:
    hosts, donors = pair(3000, 14, 14)
    mixed = cutmix(hosts, donors, (1, 1), seeded(0), reach_last=reach_last)
    covered = (mixed.images[:, 0] >= 0.5).any(0)
    assert covered[:13, :13].all()
    assert covered[13].all() == covered[:, 13].all() == reach_last
    assert covered[13].any() == covered[:, 13].any() == reach_last
    sides = mixed.rectangles[:, 2:]
    assert (int(sides.min()), int(sides.max())) == (3, 8)
    assert set(sides.flatten().tolist()) == set(range(3, 9))
    assert float(mixed.area.mean()) == pytest.approx(0.154, abs=0.005)  # as measured on the published code


@pytest.mark.parametrize(
    ("grid", "sides"), [(14, (3, 8)), (8, (2, 5)), (16, (3, 9)), (37, (8, 21)), (4, (1, 2)), (1, (1, 1))]
)
def test_sides_scale_with_the_grid(grid: int, sides: tuple[int, int]) -> None:
    assert default_sides(grid) == sides


def test_the_default_sides_are_those_of_the_shorter_side() -> None:
    hosts, donors = pair(400, 14, 28)
    mixed = cutmix(hosts, donors, (1, 1), seeded(0))
    assert (int(mixed.rectangles[:, 2:].min()), int(mixed.rectangles[:, 2:].max())) == (3, 8)


def test_the_generator_decides() -> None:
    hosts, donors = pair(4, 16, 16)
    first = cutmix(hosts, donors, (2, 2), seeded(0))
    assert torch.equal(first.rectangles, cutmix(hosts, donors, (2, 2), seeded(0)).rectangles)
    assert not torch.equal(first.rectangles, cutmix(hosts, donors, (2, 2), seeded(1)).rectangles)


def test_pairs_that_cannot_be_mixed() -> None:
    hosts, donors = pair(4, 16, 16)
    with pytest.raises(
        InvalidInputError, match=r"hosts are \(4, 3, 16, 16\) but donors \(3, 3, 16, 16\); give as many"
    ):
        cutmix(hosts, donors[:3], (2, 2), seeded(0))
    for sides in ((3, 9), (0, 2), (4, 3)):
        with pytest.raises(
            InvalidInputError,
            match=rf"rectangle sides {sides[0]}\.\.{sides[1]} do not fit into a grid of 8x8",
        ):
            cutmix(hosts, donors, (2, 2), seeded(0), sides=sides)
    with pytest.raises(InvalidInputError, match=r"sides 3\.\.8 do not fit into a grid of 8x8"):
        cutmix(
            hosts, donors, (2, 2), seeded(0), sides=(3, 8), reach_last=False
        )  # the last row is out of reach


logits = arrays("float32", (3, 5), elements=st.floats(-30, 30, width=32)).map(torch.from_numpy)


@given(logits, logits)
def test_inv24_it_is_never_negative_and_nothing_for_identical_logits(clean: Tensor, mixed: Tensor) -> None:
    found = distillation(clean, mixed)
    assert found.shape == (3,)
    assert found.min() >= -1e-4  # rounding of a sum of 25 times single precision
    torch.testing.assert_close(distillation(clean, clean), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(distillation(clean, clean + 3), torch.zeros(3), rtol=0, atol=1e-3)


def test_inv24_its_direction_is_from_clean_to_mixed() -> None:
    clean, mixed = torch.tensor([[10.0, 0.0, -5.0]]), torch.tensor([[0.0, 4.0, 1.0]])
    p = [math.exp(v / 5) for v in (10, 0, -5)]
    q = [math.exp(v / 5) for v in (0, 4, 1)]
    p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
    wanted = 25 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    other = 25 * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert float(distillation(clean, mixed)) == pytest.approx(wanted, rel=1e-5)
    assert abs(wanted - other) > 1
    assert float(distillation(mixed, clean)) == pytest.approx(other, rel=1e-5)


def test_inv24_gradient_and_temperature() -> None:
    clean, mixed = (
        torch.randn(2, 4, generator=seeded(0)),
        torch.randn(2, 4, generator=seeded(1)).requires_grad_(True),
    )
    (gradient,) = torch.autograd.grad(distillation(clean, mixed).sum(), mixed)
    wanted = TEMPERATURE * (F.softmax(mixed / 5, 1) - F.softmax(clean / 5, 1))
    torch.testing.assert_close(gradient, wanted.detach(), rtol=1e-4, atol=1e-5)
    sharp = distillation(clean, mixed.detach(), temperature=1.0)
    assert not torch.allclose(sharp, distillation(clean, mixed.detach()))
