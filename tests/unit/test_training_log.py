"""The CSV of a training run: no row twice, none missing, the same bytes after a kill."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from workbench.errors import InvalidInputError
from workbench.training_log import TrainingLog


def row(i: int) -> dict[str, float]:
    return {"iteration": i, "loss": 1 / (i + 3)}


def write(path: Path, first: int, last: int, keep: int = 0) -> None:
    log = TrainingLog(path, keep)
    for i in range(first, last):
        log.append(row(i))


def test_one_row_an_iteration_under_one_header(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    write(path, 0, 3)
    assert path.read_text() == "iteration,loss\n0,0.333333\n1,0.25\n2,0.2\n"
    assert list(csv.DictReader(path.open()))[1] == {"iteration": "1", "loss": "0.25"}


def test_rows_after_the_state_are_dropped_and_written_again(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.csv", tmp_path / "log.csv"
    write(whole, 0, 9)
    write(resumed, 0, 7)  # killed here; the state was saved after five
    write(resumed, 5, 9, keep=5)
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_row_torn_by_the_kill_is_dropped(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.csv", tmp_path / "log.csv"
    write(whole, 0, 9)
    write(resumed, 0, 6)
    resumed.write_bytes(resumed.read_bytes() + b"6,0.1")
    write(resumed, 5, 9, keep=5)
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_new_run_puts_an_old_log_aside(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(path, 0, 2)
    old = path.read_bytes()
    write(path, 0, 1)
    assert (tmp_path / "log.csv.previous").read_bytes() == old
    assert path.read_text() == "iteration,loss\n0,0.333333\n"


def test_a_log_shorter_than_the_state(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(path, 0, 2)
    with pytest.raises(InvalidInputError, match=r"log\.csv has 2 rows but the state has seen 5; delete both"):
        TrainingLog(path, keep=5)


def test_without_a_path_nothing_is_kept() -> None:
    TrainingLog(None, keep=3).append(row(0))
