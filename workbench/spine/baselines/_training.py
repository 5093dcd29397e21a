"""Training a network that looks at whole frames, on random views, for a time or for so many passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from workbench.errors import InvalidInputError
from workbench.spine.augmentation import PlainViews, RandomViews, show
from workbench.spine.fitting import FitSettings, StateFile, fit
from workbench.spine.views import Pyramid
from workbench.training_log import TrainingLog

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

#: Passes where neither a time nor passes are asked for.
_EPOCHS = 40
#: Steps that no training for a time gets to.
_ENDLESS = 1_000_000
#: Images a network sees at once when it predicts.
_PREDICTED_AT_ONCE = 8


@dataclass(frozen=True)
class Plan:
    """How long a network is trained, and how.

    Args:
        minutes: So long, or None.
        epochs: So many passes, or None; 40 where `minutes` is None too.
        seed: Seed of everything random.
        batch: Images a step.
        learning_rate: The highest.
    """

    minutes: float | None = None
    epochs: int | None = None
    seed: int = 0
    batch: int = 16
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.minutes is not None and self.epochs is not None:
            raise InvalidInputError(
                f"minutes ({self.minutes}) and epochs ({self.epochs}) were given; give one"
            )
        for name in ("minutes", "epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInputError(f"{name} is {value}; it must be positive")

    def settings(self, samples: int) -> FitSettings:
        """For a training on so many samples."""
        steps = _ENDLESS if self.minutes else (self.epochs or _EPOCHS) * math.ceil(samples / self.batch)
        return FitSettings(steps, self.learning_rate, seed=self.seed)

    @property
    def deadline(self) -> float | None:
        """Seconds, or None."""
        return None if self.minutes is None else 60 * self.minutes


def train(
    name: str,
    build: Callable[[], nn.Module],
    size: tuple[int, int],
    loss_of: Callable[[Any, Float[Tensor, "n 17 4 2"]], Tensor],
    samples: Samples,
    plan: Plan,
    progress: bool = True,
    log: Path | None = None,
) -> nn.Module:
    """Build and train a network on random views of samples.

    Args:
        name: What is trained, for the progress bar and messages.
        build: Makes the network; its weights come from torch's global generator, which is seeded here and put back.
        size: Height and width of the views.
        loss_of: Loss of what the network gives for views with these corners (pixels of the frame).
        samples: Frames and corners.
        plan: How long, and how.
        progress: Show a progress bar.
        log: CSV file, one row every fifty steps: step, loss, learning rate.

    Raises:
        TrainingDivergedError: a loss is not finite.
    """
    pyramid, corners = Pyramid.of(samples.images), samples.corners.float()

    def loss(generator: torch.Generator) -> Tensor:
        batch = torch.randperm(len(corners), generator=generator)[: plan.batch]
        views = RandomViews.draw(len(batch), generator)
        return loss_of(network(show(views, pyramid[batch], size)), views.corners(corners[batch]))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = build()
        report = TrainingLog(log).append
        settings, nowhere = plan.settings(len(corners)), StateFile(None, name)
        fit(name, network, loss, settings, nowhere, report, progress, plan.deadline)
    return network.eval()


def look(
    images: UInt8[Tensor, "n 704 384"], size: tuple[int, int]
) -> Iterator[Float[Tensor, "part 1 _h _w"]]:
    """Frames as a network sees them when it predicts, a few at once."""
    for part in images.split(_PREDICTED_AT_ONCE):
        yield show(PlainViews(), Pyramid.of(part), size)
