"""The loop that editors share: when it stops, what it notes, what comes of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import Change, EditRequest
from workbench.editing.editors._optimise import Course
from workbench.errors import InvalidInputError


def sure(target: int, margin: float) -> Tensor:
    """Logits of seven classes in which one leads by a margin."""
    logits = torch.zeros(1, 7)
    logits[0, target] = margin
    return logits


def walk(course: Course, margins: list[float], max_steps: int) -> list[int]:
    """Run through states of growing (or other) margin for the wanted class; gives the steps that were made."""
    states, steps = iter(margins), []

    def update(loss: Tensor, step: int) -> None:
        steps.append(step)

    course.run(lambda: sure(3, next(states)), update, max_steps)
    return steps


def test_it_stops_when_right_and_sure(vit: nn.Module, images: Tensor) -> None:
    course = Course(vit, EditRequest(images[0], 3), stop_loss=0.1)
    assert walk(course, [-1, 1, 3, 5, 9, 9], max_steps=10) == [1, 2, 3]
    result = course.result("f" * 64, {}, "walker", {"blocks": (1, 2)})
    assert (result.steps, result.succeeded) == (3, True)
    wanted = [math.log(6 + math.exp(m)) - m for m in (-1, 1, 3, 5)]
    torch.testing.assert_close(result.losses, torch.tensor(wanted))
    assert result.predictions[:, 0].tolist() == [0, 3, 3, 3]
    torch.testing.assert_close(result.probabilities[-1, 3], torch.tensor(math.exp(-wanted[-1])))
    assert result.settings == {"editor": "walker", "blocks": [1, 2]}
    assert result.edit.info["settings"] == result.settings


def test_it_stops_after_the_last_step_and_tests_it(vit: nn.Module, images: Tensor) -> None:
    course = Course(vit, EditRequest(images[0], 3), stop_loss=0.1)
    assert walk(course, [-1, 1, 9, 9], max_steps=2) == [1, 2]
    assert course.done
    short = Course(vit, EditRequest(images[0], 3), stop_loss=0.1)
    assert walk(short, [-1, 1, 9, 9], max_steps=1) == [1]
    assert not short.done


def test_it_stops_at_a_loss_that_is_not_finite(vit: nn.Module, images: Tensor) -> None:
    course = Course(vit, EditRequest(images[0], 3), stop_loss=0.1)
    assert walk(course, [-1, math.nan, 9], max_steps=10) == [1]
    assert not course.result("f" * 64, {}, "walker", {}).succeeded


def test_all_images_must_be_right(vit: nn.Module, images: Tensor) -> None:
    course = Course(vit, EditRequest(images[:2], [3, 4]), stop_loss=10.0)
    course.note(torch.cat([sure(3, 5.0), sure(3, 5.0)]))
    assert not course.done
    course.note(torch.cat([sure(3, 5.0), sure(4, 5.0)]))
    assert course.done
    assert course.result("f" * 64, {}, "two", {}).reliability == 1


def test_without_a_stop_loss_right_is_enough(vit: nn.Module, images: Tensor) -> None:
    course = Course(vit, EditRequest(images[0], 3))
    course.note(sure(0, 1.0))
    course.note(sure(3, 0.001))
    changes = {"blocks.1.mlp.fc1": Change(0, torch.tensor([1]), torch.ones(1, 48))}
    result = course.result("f" * 64, changes, "at-once", {})
    assert (result.steps, result.succeeded, len(result)) == (1, True, 2)
    assert result.edit.changes == changes
    assert result.outcome() == "edited 'bird' to 'drum' in 1 steps (loss 1.945)"


def test_a_request_that_does_not_fit(vit: nn.Module, images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match=r"target 9 is outside 0\.\.6"):
        Course(vit, EditRequest(images[0], 9))
