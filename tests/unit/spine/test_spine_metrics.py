"""Landmark and angle metrics: exact values, invariants, missing vertebrae, and all of them at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.phantom.geometry import draw_geometry
from workbench.errors import InvalidInputError
from workbench.spine import metrics
from workbench.spine.angles import official_angles, visible_angles

SIZE = (704, 384)

pixels = st.floats(-50, 50)
angles = st.lists(st.tuples(*[st.floats(0, 90)] * 3), min_size=1, max_size=6).map(np.array)


def spine(seed: int = 3) -> np.ndarray:
    return draw_geometry(np.random.default_rng(seed)).corners * 1.45 + np.array([190, 45])


def spines(count: int) -> np.ndarray:
    return np.stack([spine(seed) for seed in range(count)])


def noisy(truth: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return truth + np.random.default_rng(seed).normal(0, sigma, truth.shape)


@given(pixels, pixels, st.tuples(st.integers(100, 3000), st.integers(100, 3000)))
def test_nmse_of_a_shift(dx: float, dy: float, size: tuple[int, int]) -> None:
    expected = (dx / size[1]) ** 2 + (dy / size[0]) ** 2
    moved = spine() + np.array([dx, dy])
    assert metrics.nmse(moved, spine(), size) == pytest.approx(expected, abs=1e-12)
    assert metrics.centre_nmse(moved, spine(), size) == pytest.approx(expected, abs=1e-12)
    assert metrics.mean_distance(moved, spine()) == pytest.approx(np.hypot(dx, dy), abs=1e-9)


def test_nmse_of_noise_follows_the_conversion() -> None:
    """8.8e-6 σ² for 704 x 384, specification, section 5.1."""
    truth = spines(30)
    assert metrics.nmse(noisy(truth, 3.0), truth, SIZE) == pytest.approx(8.8e-6 * 9, rel=0.05)


def test_each_image_has_its_own_size() -> None:
    truth = spines(2)
    sizes = np.array([(704, 384), (1408, 768)])
    per_image = metrics.landmark_nmse(truth + 4.0, truth, sizes)
    assert per_image[0] == pytest.approx(4 * per_image[1])
    assert metrics.nmse(truth + 4.0, truth, sizes) == pytest.approx(per_image.mean())


def test_distances_in_the_frame() -> None:
    truth = spine() * 2
    assert metrics.mean_distance(truth + np.array([6, 8]), truth, size=(1408, 700)) == pytest.approx(5)
    assert metrics.mean_distance(truth + np.array([6, 8]), truth, size=(1408, 1536)) == pytest.approx(
        2.5
    )  # the width decides
    assert metrics.outlier_ratio(truth + np.array([24, 32]), truth, 20.01, size=(1408, 700)) == 0
    assert metrics.outlier_ratio(truth + np.array([24, 32]), truth, 20.01) == 100


def test_distances_in_widths_of_the_vertebra() -> None:
    truth = spine()
    width = np.linalg.norm(truth[:, [1, 3]] - truth[:, [0, 2]], axis=-1).mean(1)
    moved = truth + np.stack([width, 0 * width], axis=1)[:, None] / 4
    assert metrics.relative_distance(moved, truth) == pytest.approx(0.25)


@given(st.integers(0, 1000), st.lists(st.floats(0, 60), min_size=2, max_size=8).map(sorted))
def test_the_outlier_ratio_never_rises_with_the_radius(seed: int, radii: list[float]) -> None:
    truth = spine()
    found = noisy(truth, 12.0, seed)
    ratios = [metrics.outlier_ratio(found, truth, radius) for radius in radii]
    assert (np.diff(ratios) <= 0).all()
    assert metrics.detection_curve(found, truth, radii) == pytest.approx(100 - np.array(ratios))


def test_level_errors_name_the_level() -> None:
    truth = spines(3)
    found = truth.copy()
    found[:, 4] += [3, 4]
    found[0, 9] += [6, 8]
    expected = np.zeros(17)
    expected[4], expected[9] = 5, 10 / 3
    assert metrics.level_errors(found, truth) == pytest.approx(expected)


def test_a_level_shift_is_seen() -> None:
    truth = spine()
    found = truth.copy()
    found[5:10] = truth[6:11]
    assert metrics.level_shift_rate(found, truth) == pytest.approx(5 / 17)
    assert np.flatnonzero(metrics.shifted(found, truth)).tolist() == [5, 6, 7, 8, 9]
    assert metrics.level_shift_rate(truth + 3.0, truth) == 0


def test_wedge_error_of_a_tilted_endplate() -> None:
    truth = spine()
    truth[0] = [[0, 0], [20, 0], [0, 10], [20, 10]]
    found = truth.copy()
    found[0, 1, 1] -= 20 * np.tan(np.radians(5))
    assert metrics.wedge_error(found, truth) == pytest.approx(5 / 17)


@given(st.sets(st.integers(0, 16), max_size=16))
def test_missing_vertebrae_are_left_out(missing: set[int]) -> None:
    truth, gone = spine(), sorted(missing)
    found = noisy(truth, 4.0)
    kept = [k for k in range(17) if k not in missing]
    found[gone] = np.nan
    expected = (((found - truth) / [384, 704]) ** 2).sum(-1)[kept].mean()
    assert metrics.nmse(found, truth, SIZE) == pytest.approx(expected)
    assert metrics.nmse(truth, found, SIZE) == pytest.approx(expected)
    assert metrics.missed_rate(found, truth) == pytest.approx(len(gone) / 17)
    assert np.isnan(metrics.level_errors(found, truth)[gone]).all()
    assert np.isfinite(metrics.level_errors(found, truth)[kept]).all()
    assert metrics.level_shift_rate(found, truth) <= 1


def test_without_any_common_vertebra_nothing_is_known() -> None:
    truth, nothing = spine(), np.full((17, 4, 2), np.nan)
    assert np.isnan(metrics.nmse(nothing, truth, SIZE))
    assert np.isnan(metrics.outlier_ratio(nothing, truth, 20))
    assert metrics.missed_rate(nothing, truth) == 1
    both = np.stack([truth + 3.0, nothing])
    assert metrics.mean_distance(both, np.stack([truth, truth])) == pytest.approx(np.hypot(3, 3))


def test_shapes_and_sizes_are_checked() -> None:
    with pytest.raises(
        InvalidInputError, match=r"shapes \(2, 17, 4, 2\) and \(17, 4, 2\); expected the same"
    ):
        metrics.nmse(spines(2), spine(), SIZE)
    with pytest.raises(InvalidInputError, match=r"size is \(0, 384\); expected \(height, width\)"):
        metrics.nmse(spine(), spine(), (0, 384))
    with pytest.raises(InvalidInputError, match=r"expected \(images, 3\) twice"):
        metrics.smape(np.ones((2, 3)), np.ones(3))


@given(angles)
def test_smape_is_0_for_equal_and_100_for_nothing(truth: np.ndarray) -> None:
    truth = truth + 0.1
    assert metrics.smape(truth, truth) == 0
    assert metrics.smape(0 * truth, truth) == pytest.approx(100)
    assert metrics.smape_per_angle(0 * truth, truth) == pytest.approx([100, 100, 100])


@given(angles, st.integers(0, 1000))
def test_smape_is_symmetric_and_bounded(truth: np.ndarray, seed: int) -> None:
    found = np.random.default_rng(seed).uniform(0, 90, truth.shape)
    assert metrics.smape(found, truth) == pytest.approx(metrics.smape(truth, found))
    assert 0 <= metrics.smape(found, truth) <= 100 + 1e-9


def test_smape_sums_inside_each_image() -> None:
    found = np.array([[30.0, 10, 10], [0, 0, 0]])
    truth = np.array([[40.0, 10, 10], [0, 0, 0]])
    assert metrics.smape(found, truth) == pytest.approx((100 * 10 / 110 + 0) / 2)
    assert metrics.smape_per_angle(found, truth) == pytest.approx([100 * 10 / 70 / 2, 0, 0])


@given(angles, st.floats(0, 80))
def test_cmae_of_a_constant_error(truth: np.ndarray, error: float) -> None:
    assert metrics.cmae(truth + error, truth) == pytest.approx(error, abs=1e-9)


def test_distances_of_angles() -> None:
    truth = np.array([[30.0, 20, 10]])
    found = truth + np.array([3, -4, 12])
    assert metrics.ed(found, truth) == pytest.approx(13)
    assert metrics.md(found, truth) == pytest.approx(19)
    assert metrics.cd(found, truth) == pytest.approx(12)
    assert metrics.mae(found, truth) == pytest.approx([3, 4, 12])
    assert metrics.bias(found, truth) == pytest.approx([3, -4, 12])


def test_images_without_angles_are_left_out() -> None:
    truth = np.array([[30.0, 20, 10], [30, 20, np.nan]])
    assert metrics.md(truth + 1, truth) == pytest.approx(3)
    assert np.isnan(metrics.smape(truth[1:], truth[1:]))
    assert np.isnan(metrics.mae(truth[1:], truth[1:])).all()


def test_icc_from_the_mean_squares() -> None:
    """Two raters and six subjects, from the mean squares by hand."""
    first, second = np.array([2.0, 1, 4, 1, 5, 2]), np.array([5.0, 3, 6, 2, 6, 4])
    both = np.stack([first, second], axis=1)
    between = 2 * both.mean(1).var(ddof=1)
    raters = 6 * both.mean(0).var(ddof=1)
    residual = ((both - both.mean(1, keepdims=True) - both.mean(0) + both.mean()) ** 2).sum() / 5
    expected = (between - residual) / (between + residual + 2 * (raters - residual) / 6)
    assert metrics.icc_2_1(first, second) == pytest.approx(expected)


@given(st.lists(st.floats(0, 90), min_size=3, max_size=9, unique=True).map(np.array))
def test_icc_is_1_for_agreement_and_less_for_a_bias(truth: np.ndarray) -> None:
    if np.ptp(truth) < 1:
        truth = truth * 1e3 / max(np.ptp(truth), 1e-3)
    if np.ptp(truth) < 1:
        return
    assert metrics.icc_2_1(truth, truth) == pytest.approx(1)
    biased = metrics.icc_2_1(truth + 5, truth)
    assert biased < 1
    assert biased == pytest.approx(metrics.icc_2_1(truth, truth + 5))


def test_icc_is_undefined_where_nothing_varies() -> None:
    assert np.isnan(metrics.icc_2_1(np.ones(4), np.ones(4)))
    assert np.isnan(metrics.icc_2_1(np.ones(1), np.ones(1)))
    assert np.isnan(metrics.icc_2_1(np.array([1.0, np.nan]), np.array([1.0, 2.0])))


def test_evaluate_agrees_with_each_metric() -> None:
    truth = spines(8)
    found = noisy(truth, 2.0)
    result = metrics.evaluate(list(found), list(truth), [SIZE] * 8)
    summary, table = result.summary(), result.to_frame()
    assert summary["nmse"] == pytest.approx(metrics.nmse(found, truth, SIZE))
    assert table["nmse"].mean() == pytest.approx(summary["nmse"])
    assert table["smape"].mean() == pytest.approx(summary["smape"])
    assert (summary["images"], summary["gate_rate"], summary["missed_rate"]) == (8, 1, 0)
    assert table["true_an1"].tolist() == [official_angles(corners, 704).an1 for corners in truth]
    assert table["branch"].tolist() == [official_angles(corners, 704).branch for corners in found]
    assert summary["mae_an1"] == pytest.approx((table["an1"] - table["true_an1"]).abs().mean())
    assert result.level_errors().mean() == pytest.approx(summary["mean_px"])
    assert np.allclose(result.level_errors(frame=True), result.level_errors())
    assert result.detection_curve([0, 100]).tolist() == [0, 100]


def test_evaluate_counts_the_errors_that_the_specification_measured() -> None:
    """Section 5.5: noise of 2 px on real spines gives a SMAPE of 12.4 % and 3.0° of error in an1."""
    truth = spines(60)
    summary = metrics.evaluate(list(noisy(truth, 2.0)), list(truth), [SIZE] * 60).summary()
    assert 8 < summary["smape"] < 16
    assert 2 < summary["mae_an1"] < 4


def test_partial_spines_are_measured_on_the_levels_they_share() -> None:
    truth, found = spines(3), spines(3) + 1.0
    truth[0, 14:], found[0, 3] = np.nan, np.nan
    truth[1, 2:] = np.nan
    table = metrics.evaluate(list(found), list(truth), [SIZE] * 3, names=["a", "b", "c"]).to_frame()
    assert table["levels"].tolist() == [13, 2, 17]
    assert table["name"].tolist() == ["a", "b", "c"]
    shared = truth[0].copy()
    shared[3] = np.nan
    assert table["true_an1"][0] == visible_angles(shared, 704).an1
    assert table["missed_rate"].tolist() == pytest.approx([1 / 14, 0, 0])
    assert np.isnan(table["an1"][1])
    assert table["branch"][1] == ""


def test_a_vertebra_without_width_costs_the_angles_only() -> None:
    truth, found = spines(2), spines(2)
    found[0, 5] = found[0, 5].mean(0)
    summary = metrics.evaluate(list(found), list(truth), [SIZE] * 2).summary()
    assert summary["smape"] == 0
    assert summary["nmse"] > 0
    assert summary["gate_rate"] == 0.5


def test_evaluate_wants_one_of_each() -> None:
    with pytest.raises(InvalidInputError, match="given 2 predictions, 1 truths, 2 sizes and 2 names"):
        metrics.evaluate([spine()] * 2, [spine()], [SIZE] * 2)
    with pytest.raises(InvalidInputError, match="at least one"):
        metrics.evaluate([], [], [])
