"""Principal components of shapes: projection, symmetry under flips, clamps, alignment, and how few modes suffice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cascade import drawn_spines

from workbench.data.vertebrae import flip_corners
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.spine.shape_model import Alignment, Clamp, ShapeModel, align_shapes

SIZE = np.array([384.0, 704.0])
seeds = st.integers(0, 10**6)
clamps = st.sampled_from(["box", "ellipsoid"])


def shapes_of(seed: int, count: int = 30, length: int = 34) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((length, length)) * 0.7 ** np.arange(length)
    return generator.standard_normal((count, length)) @ mixing.T + generator.standard_normal(length)


@given(seeds, st.floats(0.3, 1.0))
def test_the_basis_is_orthonormal_and_projecting_twice_is_projecting_once(seed: int, variance: float) -> None:
    model = ShapeModel.fit(shapes_of(seed), variance=variance)
    basis = model.basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(model.components), atol=1e-10)
    onto = basis @ basis.T
    np.testing.assert_allclose(onto @ onto, onto, atol=1e-10)
    np.testing.assert_allclose(onto, onto.T, atol=1e-10)


@settings(max_examples=20)
@given(seeds)
def test_residuals_are_orthogonal_to_the_basis_and_fall_with_every_mode(seed: int) -> None:
    shapes = shapes_of(seed)
    before = np.full(len(shapes), np.inf)
    for components in range(1, 30):
        model = ShapeModel.fit(shapes, components=components)
        residual = shapes - model.reconstruct(model.project(shapes))
        np.testing.assert_allclose(residual @ model.basis, 0, atol=1e-9)
        norms = np.linalg.norm(residual, axis=1)
        assert (norms <= before + 1e-9).all()
        before = norms
    np.testing.assert_allclose(before, 0, atol=1e-9)


@given(seeds)
def test_all_modes_hold_all_variance_and_give_shapes_back(seed: int) -> None:
    shapes = shapes_of(seed)
    model = ShapeModel.fit(shapes, components=29)
    np.testing.assert_allclose(model.project(model.mean), 0, atol=1e-12)
    np.testing.assert_allclose(model.reconstruct(model.project(shapes)), shapes, atol=1e-9)
    np.testing.assert_allclose(model.variances.sum(), np.trace(np.cov(shapes.T)), rtol=1e-9)
    np.testing.assert_allclose(model.project(shapes).var(0, ddof=1), model.variances, rtol=1e-6)
    assert (np.diff(model.variances) <= 0).all()


@given(seeds, st.floats(0.5, 0.999))
def test_the_fewest_modes_that_hold_the_share_are_kept(seed: int, share: float) -> None:
    shapes = shapes_of(seed)
    every = ShapeModel.fit(shapes, variance=1.0).variances
    held = np.cumsum(every) / every.sum()
    kept = ShapeModel.fit(shapes, variance=share).components
    assert held[kept - 1] >= share - 1e-9
    assert kept == 1 or held[kept - 2] < share


def test_without_a_mean_the_modes_describe_moves_around_zero() -> None:
    moves = shapes_of(0) + 3
    model = ShapeModel.fit(moves, components=4, centre=False)
    np.testing.assert_array_equal(model.mean, 0)
    assert np.linalg.norm(model.reconstruct(model.project(moves)) - moves) < np.linalg.norm(moves)


@pytest.mark.parametrize("landmarks", ["centres", "corners"])
def test_with_flips_the_modes_are_symmetric_or_antisymmetric(landmarks: str) -> None:
    corners = drawn_spines(60)
    both = np.concatenate([corners, flip_corners(corners, 384)])

    def vectors(points: np.ndarray) -> np.ndarray:
        return ((points.mean(2) if landmarks == "centres" else points) / SIZE).reshape(len(points), -1)

    model = ShapeModel.fit(vectors(both), components=10)
    modes = model.reconstruct(np.eye(10)) if landmarks == "centres" else None
    mean = model.mean.reshape(17, -1, 2) * SIZE
    if landmarks == "centres":
        mirrored_mean = mean * [-1, 1] + [383, 0]
        turned = (modes - model.mean).reshape(10, 17, 2) * [-1, 1]
    else:
        mirrored_mean = flip_corners(mean, 384)
        turned = model.basis.T.reshape(10, 17, 4, 2)[:, :, [1, 0, 3, 2]] * [-1, 1]
    np.testing.assert_allclose(mirrored_mean, mean, atol=1e-9)
    parity = model.basis.T @ turned.reshape(10, -1).T
    np.testing.assert_allclose(np.abs(parity), np.eye(10), atol=1e-8)


@given(seeds, clamps, st.floats(0.1, 20))
def test_clamping_twice_is_clamping_once_and_never_moves_away(seed: int, kind: Clamp, far: float) -> None:
    model = ShapeModel.fit(shapes_of(seed), components=8)
    wild = np.random.default_rng(seed).standard_normal((40, 8)) * np.sqrt(model.variances) * far
    once = model.clamp(wild, kind)
    np.testing.assert_allclose(model.clamp(once, kind), once, rtol=1e-12)
    assert (model.mahalanobis(once) <= model.mahalanobis(wild) * (1 + 1e-12)).all()
    assert (np.abs(once) <= np.abs(wild) * (1 + 1e-12)).all()


@given(seeds, clamps)
def test_inside_its_limits_a_clamp_changes_nothing(seed: int, kind: Clamp) -> None:
    model = ShapeModel.fit(shapes_of(seed), components=8)
    tame = np.random.default_rng(seed).uniform(-1, 1, (40, 8)) * np.sqrt(model.variances)
    np.testing.assert_array_equal(model.clamp(tame, kind), tame)
    assert not model.clamped(tame).any()


def test_the_box_ends_at_three_standard_deviations() -> None:
    model = ShapeModel(np.zeros(2), np.eye(2), np.array([4.0, 1.0]))
    np.testing.assert_array_equal(model.clamp(np.array([9.0, -1.0])), [6, -1])
    assert model.clamped(np.array([6.0, 1.0])).tolist() == [True, False]
    assert model.mahalanobis(np.array([2.0, 0.0])) == 1


def test_the_ellipsoid_holds_nearly_all_normal_shapes() -> None:
    model = ShapeModel(np.zeros(6), np.eye(6), np.arange(6, 0, -1.0))
    drawn = np.random.default_rng(0).standard_normal((20000, 6)) * np.sqrt(model.variances)
    moved = (model.clamp(drawn, "ellipsoid") != drawn).any(1)
    assert 0.001 < moved.mean() < 0.006


@settings(max_examples=20)
@given(seeds)
def test_similarity_alignment_does_not_see_place_size_or_turn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = drawn_spines(6, seed).mean(2)
    moved = points.copy()
    for i in range(1, 6):
        angle, scale = generator.uniform(-3, 3), generator.uniform(0.3, 3)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved[i] = points[i] @ turn * scale + generator.uniform(-500, 500, 2)
    aligned = align_shapes(points.reshape(6, -1), "similarity")
    np.testing.assert_allclose(align_shapes(moved.reshape(6, -1), "similarity"), aligned, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=1), 1, atol=1e-12)


def test_alignment_mirrors_nothing() -> None:
    points = drawn_spines(2).mean(2)
    points[1] = points[0] * [-1, 1]
    aligned = align_shapes(points.reshape(2, -1), "similarity")
    assert np.abs(aligned[0] - aligned[1]).max() > 1e-3


def test_other_alignments() -> None:
    shapes = shapes_of(0)
    np.testing.assert_array_equal(align_shapes(shapes, "none"), shapes)
    moved = align_shapes(shapes, "translation").reshape(30, 17, 2)
    np.testing.assert_allclose(moved.mean(1), 0, atol=1e-12)
    wrong: Alignment = "rigid"  # type: ignore[assignment]
    with pytest.raises(UnknownNameError, match="unknown alignment 'rigid'"):
        align_shapes(shapes, wrong)


def test_held_out_spines_need_about_ten_modes() -> None:
    """The floor of a shape constraint falls with every mode, from the mean shape's class to below 1e-4 at ten."""
    shapes = (drawn_spines(120).mean(2) / SIZE).reshape(120, -1)
    flips = shapes.reshape(120, 17, 2) * [-1, 1] + [383 / 384, 0]
    floors = []
    for components in (2, 5, 8, 10, 15, 20):
        errors = []
        for left_out in range(0, 120, 4):
            kept = np.arange(120) != left_out
            training = np.concatenate([shapes[kept], flips[kept].reshape(119, -1)])
            model = ShapeModel.fit(training, components=components)
            residual = model.reconstruct(model.project(shapes[left_out])) - shapes[left_out]
            errors.append(2 * (residual**2).mean())
        floors.append(float(np.mean(errors)))
    assert floors == sorted(floors, reverse=True)
    assert floors[0] < 5e-3
    assert floors[3] < 1e-4


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (np.zeros((1, 34)), {}, "at least two finite shapes"),
        (np.zeros(34), {}, "at least two finite shapes"),
        (np.full((4, 34), np.nan), {}, "at least two finite shapes"),
        (shapes_of(0), {"components": 0}, "0 components asked for; these shapes have 1 to 29"),
        (shapes_of(0), {"components": 30}, "30 components asked for"),
        (shapes_of(0), {"variance": 0.0}, "variance is 0.0; expected a share"),
        (shapes_of(0), {"variance": 1.5}, "variance is 1.5; expected a share"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    shapes: np.ndarray, options: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ShapeModel.fit(shapes, **options)  # type: ignore[arg-type]


def test_an_unknown_clamp_is_refused() -> None:
    model = ShapeModel.fit(shapes_of(0), components=2)
    with pytest.raises(UnknownNameError, match="unknown clamp 'boxes'; did you mean 'box'"):
        model.clamp(np.zeros(2), "boxes")  # type: ignore[arg-type]
