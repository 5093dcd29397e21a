"""Nine emoji sets as one data set: on small sets of the same layout, and on the real ones where they are fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tiny_emoji as sets
import torch

from workbench.data import emoji as real_emoji
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

ALL_ENTRIES = ("emojibase", *(f"emoji-{style}" for style in real_emoji.styles()))


def test_nine_styles_and_their_parts() -> None:
    assert len(real_emoji.styles()) == len(set(real_emoji.styles())) == 9
    assert real_emoji.styles("source") == ("noto", "twemoji", "emojione", "fluent-emoji-flat")
    assert real_emoji.styles("validation") == ("noto-v1",)
    assert real_emoji.styles("shift") == (
        "openmoji",
        "emojione-monotone",
        "fluent-emoji-high-contrast",
        "fluent-emoji",
    )


def test_an_unknown_style_names_the_nearest(tiny_emoji: ModuleType) -> None:
    for call in (tiny_emoji.check_style, tiny_emoji.drawings):
        with pytest.raises(UnknownNameError, match=r"unknown style 'notto'; did you mean 'noto'\?"):
            call("notto")
    assert tiny_emoji.check_style("openmoji") == "openmoji"


def test_an_unknown_concept_or_class_names_the_nearest(tiny_emoji: ModuleType) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown concept 'bannana'; did you mean 'banana'\?"):
        tiny_emoji.image("noto", "bannana")
    with pytest.raises(UnknownNameError, match=r"unknown class 'birds'; did you mean 'bird'\?"):
        tiny_emoji.class_index("birds")


def test_concepts_are_those_that_all_styles_draw_of_the_object_groups(tiny_emoji: ModuleType) -> None:
    table = tiny_emoji.concepts()
    assert list(table.columns) == ["concept", "hexcode", "group", "subgroup", "kind"]
    assert table["concept"].tolist() == sorted((*sets.CONCEPTS, sets.EXCLUDED))
    assert sets.NOT_EVERYWHERE not in set(table["concept"])
    assert sets.NOT_AN_OBJECT not in set(table["concept"])
    rows = table.set_index("concept")
    assert rows.loc["lemon", ["subgroup", "kind"]].tolist() == ["food-fruit", "produce"]
    assert rows["kind"].isna().tolist() == [name == sets.EXCLUDED for name in rows.index]
    assert rows.loc["airplane", "hexcode"] == "2708-fe0f"  # found although the other set writes 2708
    assert rows.loc["bear", "hexcode"] != "1f999"  # the first of two codes


def test_kinds_and_labels(tiny_emoji: ModuleType) -> None:
    assert tiny_emoji.kinds() == sets.KINDS == ("bird", "mammal", "produce", "vehicle")
    labels, table = tiny_emoji.labels(), tiny_emoji.concepts()
    assert labels.dtype == np.int64
    assert labels.shape == (33,)
    assert [sets.KINDS[i] for i in labels if i >= 0] == table["kind"].dropna().tolist()
    assert labels[tiny_emoji.concept_index(sets.EXCLUDED)] == -1
    assert tiny_emoji.class_index("produce") == 2
    assert table["concept"][tiny_emoji.concept_index("owl")] == "owl"


@pytest.mark.parametrize("style", real_emoji.styles())
def test_rasters_are_rgba_with_visible_content(tiny_emoji: ModuleType, style: str) -> None:
    pixels = tiny_emoji.drawings(style, size=40)
    assert pixels.shape == (33, 40, 40, 4)
    assert pixels.dtype == np.uint8
    covered = (pixels[..., 3] > 127).mean(axis=(1, 2))
    assert covered.min() > 0.05
    assert covered.max() < 0.6  # the background is transparent
    assert len({drawing.tobytes() for drawing in pixels}) == 33  # no concept is drawn as another


def test_styles_differ_and_sizes_show_the_same_drawing(tiny_emoji: ModuleType) -> None:
    noto, twemoji = (tiny_emoji.drawings(s, 40).astype(int) for s in ("noto", "twemoji"))
    assert np.abs(noto - twemoji).mean() > 1
    large = tiny_emoji.drawings("noto", 80).reshape(33, 40, 2, 40, 2, 4).mean((2, 4))
    assert np.abs(large - noto).mean() < 3


def test_aliases_are_followed_and_boxes_of_single_icons_heeded(tiny_emoji: ModuleType) -> None:
    """The style emojione draws the dog under the name hound, two aliases away, and the cat in a box of its own."""
    rows = [tiny_emoji.concept_index(name) for name in ("dog", "cat")]
    alpha = {style: tiny_emoji.drawings(style, 64)[rows][..., 3] for style in ("emojione", "noto-v1")}
    assert np.abs(alpha["emojione"].astype(int) - alpha["noto-v1"]).mean() < 3


def test_a_raster_is_made_once(tiny_emoji: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.array(tiny_emoji.drawings("noto", 24))
    monkeypatch.setattr(tiny_emoji, "_rasterise", lambda *_: pytest.fail("it is in the cache"))
    second = tiny_emoji.drawings("noto", 24)
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        second[0, 0, 0, 0] = 1


def test_a_new_set_is_rasterised_anew(tiny_emoji: ModuleType) -> None:
    before = np.array(tiny_emoji.drawings("noto", 24))
    icons = tiny_emoji.locate("emoji-noto") / "icons.json"
    icons.write_text(icons.read_text().replace("<circle", "<ellipse"))
    tiny_emoji._read_json.cache_clear()
    assert not np.array_equal(tiny_emoji.drawings("noto", 24), before)


@pytest.mark.parametrize("size", [0, 15, 2049])
def test_a_size_that_cannot_be_used(tiny_emoji: ModuleType, size: int) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"size {size} px is outside 16\.\.2048; the default models use 112"
    ):
        tiny_emoji.drawings("noto", size)


def test_an_image_is_the_drawing_on_white(tiny_emoji: ModuleType) -> None:
    image = tiny_emoji.image("noto", "owl", 48)
    assert image.shape == (3, 48, 48)
    assert image.dtype == torch.float32
    assert image[:, 0, 0].tolist() == [1, 1, 1]
    assert image.min() >= 0
    pixels = tiny_emoji.drawings("noto", 48)[tiny_emoji.concept_index("owl")].astype(float) / 255
    wanted = pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), wanted, atol=1e-6)


def test_half_transparent_pixels_are_half_white() -> None:
    pixels = np.array([[[[200, 0, 100, 51]]]], dtype=np.uint8)
    found = real_emoji.on_white(pixels)[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([200 / 255 * 0.2 + 0.8, 0.8, 100 / 255 * 0.2 + 0.8]))


def test_without_the_sets_the_error_says_what_to_type(empty_cache: Path) -> None:
    real_emoji.concepts.cache_clear()
    real_emoji._read_json.cache_clear()
    with pytest.raises(
        MissingDataError, match=r"emoji-noto .* is not in the cache; run: workbench data fetch emoji-noto"
    ):
        real_emoji.concepts()


@pytest.fixture
def fetched(require_data: Callable[..., None]) -> None:
    require_data(*ALL_ENTRIES)


def test_the_real_sets_have_649_concepts_in_twenty_kinds(fetched: None) -> None:
    table = real_emoji.concepts()
    assert len(table) == 649
    assert table["concept"].is_unique
    assert table["concept"].is_monotonic_increasing
    counts = table["kind"].value_counts()
    assert len(counts) == len(real_emoji.kinds()) == 20
    assert counts.min() >= 6
    assert counts.sum() == 523
    assert table[["hexcode", "group", "subgroup"]].notna().all(axis=None)


@pytest.mark.slow
@pytest.mark.parametrize("style", real_emoji.styles())
def test_the_real_rasters_have_visible_content(fetched: None, style: str) -> None:
    pixels = real_emoji.drawings(style)
    assert pixels.shape == (649, 112, 112, 4)
    assert (pixels[..., 3] > 127).mean(axis=(1, 2)).min() > 0.01
    assert len({drawing.tobytes() for drawing in pixels}) > 600  # clock faces look alike in some sets
