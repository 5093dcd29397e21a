"""The published evaluation as values: what is compared, what is kept between runs, and how rows are pooled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from workbench.data.disk_groups import DiskGroup
from workbench.data.imagenet import ImageList
from workbench.data.preprocess import Preprocess
from workbench.editing import MaskHypernetwork
from workbench.editing.editors import EDITORS
from workbench.editing.protocol import MEASURES, ProtocolResult, PublishedProtocol, variants_of
from workbench.editing.row_log import RowLog, row_key
from workbench.errors import InvalidInputError, UnknownNameError, WorkbenchError
from workbench.models import logits_of

PLAIN = Preprocess("plain", 32, 32, "bilinear")


@pytest.fixture
def files(images: Tensor, tmp_path: Path) -> ImageList:
    paths = []
    for i, image in enumerate(images):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return ImageList(paths, [-1] * len(paths), PLAIN)


@pytest.fixture
def group(vit: nn.Module, files: ImageList) -> DiskGroup:
    """Three images, each to be called what it is not called now; of the last one two classes are right."""
    said = logits_of(vit, files[:3].stacked()).argmax(1).tolist()
    accepted = (((said[0] + 1) % 7,), ((said[1] + 1) % 7,), ((said[2] + 1) % 7, (said[2] + 2) % 7))
    return DiskGroup("a_b", files[:3], accepted, 5)


def protocol_of(vit: nn.Module, files: ImageList, editor: str = "ft", **changes: object) -> PublishedProtocol:
    options = {
        "variants": [{"learning_rate": 1e-3}, {"learning_rate": 1e-4}],
        "common": {"blocks": (1, 2, 3), "max_steps": 4},
        "protected": files[3:],
        **changes,
    }
    return PublishedProtocol(vit, editor, **options)  # type: ignore[arg-type]


def test_rows_by_edit_group_and_variant(
    vit: nn.Module, files: ImageList, group: DiskGroup, tmp_path: Path
) -> None:
    empty = DiskGroup("c_d", files[:0], (), 4)
    result = protocol_of(vit, files).run([empty, group], RowLog(tmp_path / "rows.jsonl"))
    assert [edit["image"] for edit in result.edits] == [path.name for path in group.images.paths] * 2
    assert result.groups == (group,)
    by_group = result.by_group()
    assert [row["settings"]["learning_rate"] for row in by_group] == [1e-3, 1e-4]
    assert [(row["candidates"], row["failures"], row["edits"]) for row in by_group] == [(5, 3, 3)] * 2
    assert by_group[0]["lr"] != by_group[1]["lr"]


def test_any_of_several_right_classes_counts(
    vit: nn.Module, files: ImageList, group: DiskGroup, tmp_path: Path
) -> None:
    protocol = protocol_of(vit, files, variants=[{"learning_rate": 1e-3}])
    first = protocol.run([group], RowLog(tmp_path / "a.jsonl")).edits
    swapped = DiskGroup(group.name, group.images, (*group.accepted[:2], group.accepted[2][::-1]), 5)
    second = protocol.run([swapped], RowLog(tmp_path / "a.jsonl")).edits
    assert [row["sr"] for row in first] == [row["sr"] for row in second] == [1, 1, 1]
    assert [row["gr"] for row in first[:2]] == [
        row["gr"] for row in second[:2]
    ]  # the same edits, judged by a set


def test_every_registered_editor_runs(
    vit: nn.Module, files: ImageList, group: DiskGroup, hypernetwork: MaskHypernetwork, tmp_path: Path
) -> None:
    log = RowLog(tmp_path / "rows.jsonl")
    settings = {"hypernetwork": hypernetwork, "blocks": (1, 2, 3), "block": 2, "max_steps": 2, "steps": 2}
    settings["covariance"] = "identity"
    names = [
        name for name in EDITORS if name != "mend"
    ]  # which first needs a network of its own to be trained
    for name in names:
        entry = EDITORS[name]
        common = {key: value for key, value in settings.items() if key in entry.settings}
        variants = variants_of(name, settings=common)[:1]
        result = protocol_of(vit, files, name, variants=variants, common=common, limit=1).run([group], log)
        assert len(result.edits) == 1
        assert set(MEASURES) <= set(result.edits[0])
    assert len(log) == len(names)


def test_the_unedited_model_is_left_as_it_was(
    vit: nn.Module, files: ImageList, group: DiskGroup, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    protocol_of(vit, files).run([group], RowLog(tmp_path / "rows.jsonl"))
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())


def test_what_is_no_protocol(vit: nn.Module, files: ImageList, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown setting of the editor ft 'max_step'; did you mean 'max_steps'"
    ):
        protocol_of(vit, files, common={"max_step": 3})
    with pytest.raises(
        InvalidInputError, match="0 variants and 9 protected images; give at least one of each"
    ):
        protocol_of(vit, files, variants=[])
    with pytest.raises(InvalidInputError, match="2 variants and 0 protected images"):
        protocol_of(vit, files, protected=files[:0])
    with pytest.raises(InvalidInputError, match="limit is 0; it must be at least 1"):
        protocol_of(vit, files, limit=0)
    with pytest.raises(
        InvalidInputError, match="gets every image of these groups right: there is nothing to edit"
    ):
        protocol_of(vit, files).run([DiskGroup("c_d", files[:0], (), 4)], RowLog(tmp_path / "rows.jsonl"))


def test_settings_that_have_no_plain_form(
    vit: nn.Module, files: ImageList, group: DiskGroup, tmp_path: Path
) -> None:
    protocol = protocol_of(vit, files, common={"blocks": {1, 2}})
    with pytest.raises(
        InvalidInputError, match="the setting blocks is a set, by which a measured row cannot be found"
    ):
        protocol.run([group], RowLog(tmp_path / "rows.jsonl"))


def test_variants_are_densities_or_the_sweep() -> None:
    assert variants_of("learned-mask") == [{"sparsity": s} for s in (0.25, 0.5, 0.75, 0.9, 0.95)]
    assert variants_of("random-mask", [1.0, 0.1, 0.1]) == [{"sparsity": 0.0}, {"sparsity": 0.9}]
    assert variants_of("ft-l2") == [dict(one) for one in EDITORS["ft-l2"].sweep]
    assert variants_of("ft-l2", settings={"strength": 0.3}) == [{}]
    with pytest.raises(InvalidInputError, match=r"density 0 is outside \(0, 1\]"):
        variants_of("learned-mask", [0])
    with pytest.raises(InvalidInputError, match="lora has no mask, so it has no density"):
        variants_of("lora", [0.5])


def test_undefined_values_are_left_out_of_means(files: ImageList) -> None:
    def row(group: str, gr: float | None, lr: float) -> dict[str, object]:
        return {"group": group, "settings": {}, "sr": 1.0, "gr": gr, "gr_published": gr, "lr": lr, "steps": 2}

    groups = (DiskGroup("a", files[:1], ((0,),), 1), DiskGroup("b", files[:2], ((0,), (0,)), 2))
    edits = (row("a", None, 1.0), row("b", 0.0, 0.5), row("b", 1.0, 0.0))
    (pooled,) = ProtocolResult(edits, groups, ({},)).pooled()
    assert pooled["macro"] == {"sr": 1, "gr": 0.5, "gr_published": 0.5, "lr": 0.625, "steps": 2}
    assert pooled["micro"] == {"sr": 1, "gr": 0.5, "gr_published": 0.5, "lr": 0.5, "steps": 2}
    alone = ProtocolResult(edits[:1], groups[:1], ({},))
    assert alone.by_group()[0]["gr"] is alone.pooled()[0]["macro"]["gr"] is None


@given(cut=st.integers(0, 200), values=st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3))
def test_a_log_cut_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int, values: list[float | None]
) -> None:
    path = tmp_path_factory.mktemp("log") / "deep" / "rows.jsonl"
    log = RowLog(path)
    for i, value in enumerate(values):
        assert log.append(f"row {i}", {"lr": value, "name": "ä"}) == {"lr": value, "name": "ä"}
    content = path.read_bytes()
    cut = min(cut, len(content))
    path.write_bytes(content[: len(content) - cut])
    again = RowLog(path)
    whole = [i for i in range(3) if f"row {i}" in again]
    assert whole == list(range(len(whole)))
    assert len(whole) >= content[: len(content) - cut].count(b"\n")
    for i in range(3):
        if i not in whole:
            again.append(f"row {i}", {"lr": values[i], "name": "ä"})
    last = RowLog(path)
    assert [last[f"row {i}"] for i in range(3)] == [{"lr": value, "name": "ä"} for value in values]


def test_a_log_passes_over_what_it_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1]\n{"lr": 1}\n{"key": 3}\n\xff\xfe\n{"key": "a", "lr": 1}\n{"key": "a", "lr": 2}\n')
    log = RowLog(path)
    assert len(log) == 1
    assert log["a"] == {"lr": 1}


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match=r"cannot write .*rows\.jsonl: "):
        RowLog(tmp_path / "file" / "rows.jsonl").append("a", {})


def test_keys_tell_values_apart_and_not_their_order() -> None:
    assert row_key({"a": 1, "b": [0.1, None]}) == row_key({"b": [0.1, None], "a": 1})
    keys = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}, {}]
    assert len({row_key(identity) for identity in keys}) == len(keys)
