"""Results files, as notebooks read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError
from workbench.files import write_json
from workbench.runs import read_results

RECORD = {
    "command": "python -m benchmarks.some",
    "date": "2026-01-02",
    "seed": 3,
    "versions": {"torch": "2.13.0"},
    "results": {"front": {"overall": {"areas": [{"editor": "ft", "area": 0.7}]}}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "some.json", RECORD)
    return tmp_path


def test_parts_tables_and_source(folder: Path) -> None:
    results = read_results("some", folder)
    assert "front" in results
    assert "depth" not in results
    assert results.table("front", "overall", "areas").to_dict("records") == [{"editor": "ft", "area": 0.7}]
    assert results.source() == "python -m benchmarks.some: seed 3, 2026-01-02, torch 2.13.0"


def test_what_is_not_there_says_what_to_type(folder: Path) -> None:
    with pytest.raises(
        MissingDataError, match=r"there is no other.json in .*; type: python -m benchmarks.other"
    ):
        read_results("other", folder)
    results = read_results("some", folder)
    with pytest.raises(MissingDataError, match=r"'depth' of some was not measured; type: .* --only depth"):
        results["depth"]
    with pytest.raises(UnknownNameError, match="unknown entry of front 'overal'; did you mean 'overall'"):
        results.table("front", "overal")


def test_another_file_is_refused(folder: Path) -> None:
    for text in ("[]", '{"a": 1}', "{"):
        (folder / "some.json").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=r"some.json is no results file.*benchmarks.some"):
            read_results("some", folder)


def test_the_checkout_has_its_results() -> None:
    assert read_results("editing_quality")["edits"] > 0
