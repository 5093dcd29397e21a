"""Landmark files of other programs: exact round trips, and what broken files are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.data.landmark_files import (
    KEYPOINTS,
    LabelledImage,
    read_coco,
    read_labelme,
    read_pts,
    write_coco,
    write_labelme,
    write_pts,
)
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError


@pytest.fixture
def corners() -> np.ndarray:
    """A slightly crooked column of 17 vertebrae with coordinates that no decimal fraction hits."""
    random = np.random.default_rng(0)
    box = np.array([[-20, -12], [20, -12], [-20, 12], [20, 12]])
    centres = np.stack([300 + 30 * np.sin(np.arange(17) / 3), 60 + 33 * np.arange(17)], axis=1)
    return centres[:, None] + box + random.normal(0, 1, (17, 4, 2))


@pytest.fixture
def masked(corners: np.ndarray) -> np.ndarray:
    corners[[0, 15, 16]] = np.nan
    return corners


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_keypoints_are_in_the_order_of_the_labels() -> None:
    assert KEYPOINTS[:5] == ("T1-TL", "T1-TR", "T1-BL", "T1-BR", "T2-TL")
    assert (len(KEYPOINTS), KEYPOINTS[-1]) == (68, "L5-BR")


@pytest.mark.parametrize("which", ["corners", "masked"])
def test_round_trips_are_exact(tmp_path: Path, which: str, request: pytest.FixtureRequest) -> None:
    corners = request.getfixturevalue(which)
    image = LabelledImage("a film (1).jpg", corners, (704, 512))
    assert np.array_equal(read_pts(write_pts(tmp_path / "a.pts", corners)), corners, equal_nan=True)
    files = [
        write_labelme(tmp_path / f"{style}.json", image, style=style) for style in ("points", "polygons")
    ]
    (coco,) = read_coco(write_coco(tmp_path / "coco.json", [image]))
    for found in (*map(read_labelme, files), coco):
        assert np.array_equal(found.corners, corners, equal_nan=True)
        assert (found.name, found.size) == (image.name, image.size)


def test_several_images_in_one_coco_file(tmp_path: Path, corners: np.ndarray) -> None:
    images = [LabelledImage(f"{i}.png", corners + i, (704, 512 + i)) for i in range(3)]
    found = read_coco(write_coco(tmp_path / "coco.json", images))
    assert [(image.name, image.size[1]) for image in found] == [
        ("0.png", 512),
        ("1.png", 513),
        ("2.png", 514),
    ]
    assert np.array_equal(found[2].corners, corners + 2)


def test_coco_fields_are_what_other_programs_expect(tmp_path: Path, masked: np.ndarray) -> None:
    path = write_coco(tmp_path / "coco.json", [LabelledImage("a.png", masked, (704, 512))])
    content = json.loads(path.read_text())
    annotation = content["annotations"][0]
    assert annotation["num_keypoints"] == 14 * 4
    assert annotation["keypoints"][:3] == [0, 0, 0]
    assert set(annotation["keypoints"][2::3]) == {0, 2}
    x, y, width, height = annotation["bbox"]
    assert x == np.nanmin(masked[..., 0])
    assert y + height == pytest.approx(np.nanmax(masked[..., 1]))
    assert annotation["area"] == width * height
    assert content["categories"][0]["skeleton"][:4] == [[1, 2], [2, 4], [4, 3], [3, 1]]


def test_coco_keypoints_are_found_by_name(tmp_path: Path, corners: np.ndarray) -> None:
    def turn_round(content: dict[str, Any]) -> None:
        content["categories"][0]["keypoints"].reverse()
        points = np.reshape(content["annotations"][0]["keypoints"], (68, 3))[::-1]
        content["annotations"][0]["keypoints"] = points.ravel().tolist()

    path = write_coco(tmp_path / "coco.json", [LabelledImage("a.png", corners, (704, 512))])
    assert np.array_equal(read_coco(edited(path, turn_round))[0].corners, corners)


def test_occluded_coco_keypoints_count(tmp_path: Path, corners: np.ndarray) -> None:
    path = write_coco(tmp_path / "coco.json", [LabelledImage("a.png", corners, (704, 512))])
    edited(path, lambda content: content["annotations"][0]["keypoints"].__setitem__(2, 1))
    assert np.array_equal(read_coco(path)[0].corners, corners)


@pytest.mark.parametrize("order", [[1, 2, 3, 0], [3, 2, 1, 0], [2, 0, 1, 3]])
def test_polygons_start_anywhere(tmp_path: Path, corners: np.ndarray, order: list[int]) -> None:
    def redraw(content: dict[str, Any]) -> None:
        for shape in content["shapes"]:
            shape["points"] = [shape["points"][i] for i in order]

    image = LabelledImage("a.png", corners, (704, 512))
    path = edited(write_labelme(tmp_path / "a.json", image, style="polygons"), redraw)
    assert np.array_equal(read_labelme(path).corners, corners)


def test_swapped_sides_survive_as_points(tmp_path: Path, corners: np.ndarray) -> None:
    corners[11] = corners[11][[1, 0, 3, 2]]
    image = LabelledImage("a.png", corners, (704, 512))
    assert np.array_equal(read_labelme(write_labelme(tmp_path / "a.json", image)).corners, corners)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:67], r"a\.pts has 67 lines of points; expected 68"),
        (lambda lines: ["1 2 3", *lines[1:]], r"point 0: '1 2 3' is not 'x y'"),
        (lambda lines: ["1 two", *lines[1:]], r"point 0: '1 two' is not 'x y'"),
        (lambda lines: ["nan nan", *lines[1:]], r"a\.pts: .*a part of T1 is NaN"),
    ],
)
def test_broken_pts(tmp_path: Path, corners: np.ndarray, change: Any, message: str) -> None:
    path = write_pts(tmp_path / "a.pts", corners)
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(InvalidInputError, match=message):
        read_pts(path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("imageHeight"), InvalidInputError, "not a LabelMe file: it lacks 'imageHeight'"),
        (lambda c: c.update(shapes=3), InvalidInputError, "is not a LabelMe file"),
        (lambda c: c["shapes"].pop(), InvalidInputError, "a part of L5 is NaN"),
        (lambda c: c["shapes"].append(c["shapes"][0]), InvalidInputError, "label 'T1-TL' is labelled twice"),
        (
            lambda c: c["shapes"][0].update(label="T1-LT"),
            UnknownNameError,
            "unknown vertebra label 'T1-LT'; did you mean",
        ),
        (
            lambda c: c["shapes"][0].update(label="T1"),
            InvalidInputError,
            r"label 'T1' has points of shape \(1, 2\); expected four points",
        ),
    ],
)
def test_broken_labelme(
    tmp_path: Path, corners: np.ndarray, change: Any, error: type[Exception], message: str
) -> None:
    path = write_labelme(tmp_path / "a.json", LabelledImage("a.png", corners, (704, 512)))
    with pytest.raises(error, match=message):
        read_labelme(edited(path, change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("images"), InvalidInputError, "not a COCO keypoint file: it lacks 'images'"),
        (
            lambda c: c["annotations"][0]["keypoints"].pop(),
            InvalidInputError,
            "annotation 1 has 67.6667 keypoints .*expected 68",
        ),
        (lambda c: c["images"].clear(), InvalidInputError, "belongs to an image or a category"),
        (
            lambda c: c["categories"][0]["keypoints"].__setitem__(0, "nose"),
            UnknownNameError,
            "unknown keypoint 'nose'",
        ),
        (
            lambda c: c["categories"][0]["keypoints"].__setitem__(0, "L5-BR"),
            InvalidInputError,
            "a category of 68 keypoints, 67 of them different; expected 68",
        ),
        (
            lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 0),
            InvalidInputError,
            "annotation 1: corners must be finite: a part of T1 is NaN",
        ),
    ],
)
def test_broken_coco(
    tmp_path: Path, corners: np.ndarray, change: Any, error: type[Exception], message: str
) -> None:
    path = write_coco(tmp_path / "a.json", [LabelledImage("a.png", corners, (704, 512))])
    with pytest.raises(error, match=message):
        read_coco(edited(path, change))


@pytest.mark.parametrize("read", [read_pts, read_labelme, read_coco])
def test_missing_binary_and_cut_files(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(MissingDataError, match="there is no label file"):
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="is not a text file"):
        read(path)
    path.write_text('{"images": [')
    with pytest.raises(InvalidInputError, match=r"cut short|lines of points"):
        read(path)


def test_an_unknown_style(tmp_path: Path, corners: np.ndarray) -> None:
    with pytest.raises(UnknownNameError, match="unknown style of LabelMe files 'boxes'"):
        write_labelme(tmp_path / "a.json", LabelledImage("a.png", corners, (1, 1)), style="boxes")  # type: ignore[arg-type]
