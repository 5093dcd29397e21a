"""AASCE as released: folders, tables, .mat files and what is wrong with them, on small sets in the true layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from workbench.data.aasce import (
    AascePhase,
    AasceSet,
    NewCase,
    known_noise,
    read_submission,
    write_aasce,
    write_submission,
)
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError, WorkbenchError

NAMES = ("sunhl-1th-02-Jan-2017-162 A AP.jpg", "sunhl-1th-01-Mar-2017-310 a ap.jpg", "c.jpg")
SIZES = ((560, 200), (600, 230), (580, 220))
ANGLES = ((40.0, 20.5, 20.0), (12.25, 3.0, 9.5), (30.0, 0.0, 10.0))


def corners_of(row: int) -> np.ndarray:
    """A column of 17 vertebrae, 36 × 20 pixels, with coordinates that no decimal fraction hits."""
    box = np.array([[-18, -10], [18, -10], [-18, 10], [18, 10]])
    centres = np.stack([np.full(17, 100 + row), 60 + 26 * np.arange(17)], axis=1)
    return centres[:, None] + box + np.random.default_rng(row).normal(0, 0.3, (17, 4, 2))


def image_of(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, SIZES[row], dtype=np.uint8)


def cases() -> list[NewCase]:
    return [NewCase(NAMES[i], image_of(i), corners_of(i), ANGLES[i]) for i in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images in the layout of the release, written here without the writer under test."""
    root = tmp_path / "boostnet_labeldata"
    images, labels = root / "data" / "training", root / "labels" / "training"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    rows = []
    for i, name in enumerate(NAMES):
        height, width = SIZES[i]
        Image.fromarray(image_of(i)).save(images / name)
        points = corners_of(i).reshape(68, 2)
        savemat(labels / f"{name}.mat", {"p2": points})
        rows.append(np.concatenate([points[:, 0] / width, points[:, 1] / height]))
    (labels / "filenames.csv").write_text("".join(f"{name}\n" for name in NAMES))
    np.savetxt(labels / "landmarks.csv", rows, delimiter=",", fmt="%.17g")
    np.savetxt(labels / "angles.csv", ANGLES, delimiter=",", fmt="%.17g")
    return root


@pytest.fixture
def labels(root: Path) -> Path:
    return root / "labels" / "training"


def training(root: Path) -> AascePhase:
    return AasceSet(root).phase("training")


def without_mat(labels: Path) -> None:
    for path in labels.glob("*.mat"):
        path.unlink()


def changed(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize("source", ["mat", "csv"])
def test_everything_is_read(root: Path, labels: Path, source: str) -> None:
    if source == "csv":
        without_mat(labels)
    phase = training(root)
    assert phase.names == NAMES
    for row, case in enumerate(phase):
        assert (case.name, case.row, case.size, case.angles) == (NAMES[row], row, SIZES[row], ANGLES[row])
        np.testing.assert_allclose(case.corners, corners_of(row), rtol=0, atol=1e-9)
        assert case.read().pixels.shape == SIZES[row]
    assert phase.problems() == ()


def test_the_folder_above_will_do_too(root: Path) -> None:
    assert AasceSet(root.parent).phase("training").names == NAMES
    assert AasceSet(root.parent).phases == ("training",)


def test_x_block_comes_before_y_block(root: Path, labels: Path) -> None:
    without_mat(labels)
    row = np.loadtxt(labels / "landmarks.csv", delimiter=",")[0]
    case = training(root)[0]
    assert case.corners[0, 1] == pytest.approx((row[1] * 200, row[69] * 560))


def test_slices_and_negative_rows(root: Path) -> None:
    phase = training(root)
    assert [case.row for case in phase[1:]] == [1, 2]
    assert phase[-1].row == 2
    with pytest.raises(IndexError):
        phase[3]


def test_angles_may_be_missing(root: Path, labels: Path) -> None:
    (labels / "angles.csv").unlink()
    assert training(root)[0].angles is None


def test_a_missing_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no folder data or labels; .*workbench data fetch aasce"):
        AasceSet(tmp_path)


def test_unknown_phase(root: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown phase of AASCE 'trainin'; did you mean 'training'\?"
    ):
        AasceSet(root).phase("trainin")


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("landmarks", lambda rows: rows[:-1], r"landmarks\.csv has 2 rows and filenames\.csv has 3"),
        ("angles", lambda rows: rows[1:], r"angles\.csv has 2 rows and filenames\.csv has 3"),
        ("filenames", lambda rows: rows[:-1], r"landmarks\.csv has 3 rows and filenames\.csv has 2"),
        (
            "landmarks",
            lambda rows: [rows[0], rows[1].rpartition(",")[0], rows[2]],
            r"landmarks\.csv, row 1 \(from 0\) has 135 numbers; expected 136",
        ),
        (
            "landmarks",
            lambda rows: ["NaN," + rows[0].partition(",")[2], *rows[1:]],
            r"landmarks\.csv, row 0 \(from 0\), column 0: 'NaN' is not a finite number",
        ),
        (
            "angles",
            lambda rows: [*rows[:2], "1,2,?"],
            r"angles\.csv, row 2 \(from 0\), column 2: '\?' is not a finite number",
        ),
        (
            "filenames",
            lambda rows: [rows[0], rows[0], rows[2]],
            r"row 1 \(from 0\): 'sunhl.*' stands in row 0 already",
        ),
        (
            "filenames",
            lambda rows: ["../a.jpg", *rows[1:]],
            r"row 0 \(from 0\): '\.\./a\.jpg' is not the name of an image file",
        ),
    ],
)
def test_broken_tables(
    root: Path, labels: Path, table: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    changed(labels / f"{table}.csv", change)
    with pytest.raises(InvalidInputError, match=message):
        training(root)


def test_a_table_that_is_no_text(root: Path, labels: Path) -> None:
    (labels / "landmarks.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidInputError, match=r"landmarks\.csv is not a csv file"):
        training(root)


def test_missing_filenames(root: Path, labels: Path) -> None:
    (labels / "filenames.csv").unlink()
    with pytest.raises(MissingDataError, match=r"there is no .*filenames\.csv; to see how to get it"):
        training(root)


def test_pixels_in_the_table(root: Path, labels: Path) -> None:
    without_mat(labels)
    changed(labels / "landmarks.csv", lambda rows: ["412," + rows[0].partition(",")[2], *rows[1:]])
    with pytest.raises(InvalidInputError, match=r"row 0 .*: 412 is no x/width or y/height"):
        training(root)[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def wrong_variable(path: Path) -> None:
    savemat(path, {"points": np.zeros((68, 2)), "other": 1})


def wrong_shape(path: Path) -> None:
    savemat(path, {"p2": np.zeros((2, 68))})


def wrong_type(path: Path) -> None:
    savemat(path, {"p2": "sixty-eight points"})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, r"is not a MATLAB file, or was cut short"),
        (wrong_variable, r"has no variable 'p2'; variables in it: points, other"),
        (wrong_shape, r"p2 is float64 of shape \(2, 68\); expected 68 points"),
        (wrong_type, r"p2 is .* of shape \(1,\); expected 68 points"),
        (lambda path: path.write_bytes(b""), r"is not a MATLAB file, or was cut short"),
        (lambda path: path.write_text("no MATLAB at all" * 50), r"is not a MATLAB file, or was cut short"),
    ],
)
def test_broken_mat_files(root: Path, labels: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(labels / f"{NAMES[1]}.mat")
    phase = training(root)
    with pytest.raises(InvalidInputError, match=message) as caught:
        phase[1]
    assert str(caught.value).startswith(f"training, row 1 (from 0), {NAMES[1]}: ")
    assert phase[0].row == 0
    (problem,) = phase.problems()
    assert (problem.row, problem.kind) == (1, "unreadable")


def test_missing_image(root: Path) -> None:
    (root / "data" / "training" / NAMES[2]).unlink()
    with pytest.raises(
        MissingDataError, match=r"training, row 2 \(from 0\), c\.jpg: there is no image .*c\.jpg"
    ):
        training(root)[2]


def test_truncated_image(root: Path) -> None:
    path = root / "data" / "training" / NAMES[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    case = training(root)[0]  # its header is whole
    with pytest.raises(InvalidInputError, match=r"162 A AP\.jpg is damaged or was cut short"):
        case.read()


def test_no_landmarks_at_all(root: Path, labels: Path) -> None:
    without_mat(labels)
    (labels / "landmarks.csv").unlink()
    with pytest.raises(MissingDataError, match=r"row 0 .*neither .*\.mat nor landmarks\.csv"):
        training(root)[0]


def test_rows_in_another_order_disagree_with_the_mat_files(root: Path, labels: Path) -> None:
    changed(labels / "landmarks.csv", lambda rows: [rows[1], rows[0], rows[2]])
    problems = training(root).problems()
    assert [(problem.row, problem.kind) for problem in problems] == [(0, "disagreement"), (1, "disagreement")]
    assert "pixels: rows in another order?" in problems[0].text


def test_rounded_tables_agree(root: Path, labels: Path) -> None:
    rows = np.loadtxt(labels / "landmarks.csv", delimiter=",")
    np.savetxt(labels / "landmarks.csv", rows, delimiter=",", fmt="%.5g")
    assert training(root).problems() == ()


def test_problems_are_reported_by_row(root: Path, labels: Path) -> None:
    rolled = np.roll(corners_of(1).reshape(68, 2), 4, axis=0)
    savemat(labels / f"{NAMES[1]}.mat", {"p2": rolled})
    (labels / "landmarks.csv").unlink()
    changed(labels / "angles.csv", lambda rows: [*rows[:2], "10,20,5"])
    shutil.copy(root / "data" / "training" / NAMES[0], root / "data" / "training" / "extra.jpg")
    problems = training(root).problems()
    found = [(problem.row, problem.name, problem.kind) for problem in problems]
    assert found == [(1, NAMES[1], "rolled"), (2, NAMES[2], "angles"), (None, "extra.jpg", "left over")]


def test_labels_are_never_mended(root: Path, labels: Path) -> None:
    rolled = np.roll(corners_of(1).reshape(68, 2), 4, axis=0)
    savemat(labels / f"{NAMES[1]}.mat", {"p2": rolled})
    assert np.array_equal(training(root)[1].corners.reshape(68, 2), rolled)


def test_known_noise() -> None:
    noise = known_noise("training")
    assert "L5 stored first" in noise[77]
    assert "a landmark lies below the image" in noise[394]
    assert {10, 342, 480} <= set(noise)
    assert (len(noise), len(known_noise("test")), known_noise("phantoms")) == (42, 13, {})
    assert max(noise) < 481
    assert max(known_noise("test")) < 128


def test_known_noise_is_that_of_the_release_only(tmp_path: Path) -> None:
    names = [f"sunhl-{i}.png" if i % 2 else f"{i}.png" for i in range(128)]
    write_aasce(tmp_path, "test", [NewCase(name, image_of(0), corners_of(0), ANGLES[0]) for name in names])
    write_aasce(tmp_path, "training", cases())
    known = [problem.row for problem in AasceSet(tmp_path).phase("test").problems()]
    assert known == sorted(known_noise("test"))
    assert training(tmp_path).problems() == ()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = [*cases(), NewCase("exact.png", image_of(0), corners_of(0), ANGLES[0], {"mm_per_pixel": 0.6})]
    phase = AasceSet(write_aasce(tmp_path / "set", "training", written)).phase("training")
    for case, new in zip(phase, written, strict=True):
        assert (case.name, case.angles, case.size) == (new.name, new.angles, new.image.shape)
        assert np.array_equal(case.corners, new.corners)
    assert np.array_equal(np.rint(phase[3].read().pixels * 255), written[3].image)
    assert phase.problems() == ()
    labels = tmp_path / "set" / "labels" / "training"
    assert loadmat(labels / "c.jpg.mat")["p2"].shape == (68, 2)
    assert '"mm_per_pixel": 0.6' in (labels / "facts.json").read_text()
    without_mat(labels)
    for case, new in zip(phase, written, strict=True):
        np.testing.assert_allclose(case.corners, new.corners, rtol=0, atol=1e-9)


def missing_vertebra() -> NewCase:
    corners = corners_of(0)
    corners[3] = np.nan
    return NewCase("bad.jpg", image_of(0), corners, ANGLES[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (missing_vertebra(), "all 17 vertebrae are needed here, but T4"),
        (
            NewCase("bad.gif", image_of(0), corners_of(0), ANGLES[0]),
            r"'bad\.gif' is not the name of an image",
        ),
        (NewCase("../b.jpg", image_of(0), corners_of(0), ANGLES[0]), r"'\.\./b\.jpg' is not the name"),
        (NewCase("c.jpg", image_of(0), corners_of(0), ANGLES[0]), r"there are two cases 'c\.jpg'"),
        (NewCase("bad.jpg", image_of(0) / 255, corners_of(0), ANGLES[0]), "the image is float64 of shape"),
        (
            NewCase("bad.jpg", image_of(0), corners_of(0), (1.0, np.nan, 2.0)),
            r"bad\.jpg: angles are \(1\.0, nan, 2\.0\); expected three numbers from 0 to 180",
        ),
    ],
)
def test_nothing_is_left_of_a_phase_that_fails(tmp_path: Path, bad: NewCase, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        write_aasce(tmp_path / "set", "training", [*cases(), bad])
    assert list((tmp_path / "set").rglob("*")) == []


def test_an_error_of_the_caller_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield from cases()
        raise RuntimeError("rendering failed")

    with pytest.raises(RuntimeError, match="rendering failed"):
        write_aasce(tmp_path, "training", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(WorkbenchError, match="No space left on device; nothing was kept"):
        write_aasce(tmp_path, "training", cases())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_phase_is_kept(root: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"training is there already; remove it or choose another folder"
    ):
        write_aasce(root, "training", cases())
    write_aasce(root, "test", cases())
    assert AasceSet(root).phases == ("test", "training")


@pytest.mark.parametrize(("phase", "given"), [("../up", cases()), ("training", [])])
def test_nothing_to_write(tmp_path: Path, phase: str, given: list[NewCase]) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be the name of a phase|there are no cases to write"):
        write_aasce(tmp_path, phase, given)


def test_submissions(tmp_path: Path) -> None:
    angles = {f"01-July-2019-{i}": (40.1 + i, 20.0, 1 / 3) for i in range(1, 99)}
    path = write_submission(tmp_path / "ours.csv", angles)
    assert path.read_text().splitlines()[:2] == [
        "name,an1,an2,an3",
        "01-July-2019-1,41.1,20.0,0.3333333333333333",
    ]
    assert read_submission(path) == angles


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"begins with ''; expected 'name,an1,an2,an3'"),
        ("a,1,2,3\n", r"begins with 'a,1,2,3'; expected"),
        (
            "name,an1,an2,an3\na,1,2\n",
            r"row 1 \(header is 0\): 3 columns; expected a new name and three angles",
        ),
        ("name,an1,an2,an3\na,1,2,3\na,1,2,3\n", r"row 2 .*: 'a' for the second time"),
        ("name,an1,an2,an3\na,1,2,300\n", r"expected three numbers from 0 to 180 degrees"),
        ("name,an1,an2,an3\na,1,2,x\n", r"column 2: 'x' is not a finite number"),
    ],
)
def test_broken_submissions(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_submission(path)


def test_submissions_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected three numbers from 0 to 180"):
        write_submission(tmp_path / "ours.csv", {"a": (1.0, 2.0, -3.0)})
    with pytest.raises(InvalidInputError, match="holds a comma"):
        write_submission(tmp_path / "ours.csv", {"a,b": (1.0, 2.0, 3.0)})
    with pytest.raises(MissingDataError, match=r"there is no .*ours\.csv"):
        read_submission(tmp_path / "ours.csv")
