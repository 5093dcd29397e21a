"""Which keys a feed-forward network usually sees: the uncentred covariance of its hidden activations, for ROME."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.checkpoints import read_tensors
from workbench.data import emoji
from workbench.data.cache import cache_dir
from workbench.data.emoji_population import classified
from workbench.data.images import check_images
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.errors import InvalidInputError, MissingDataError
from workbench.files import atomic_path
from workbench.models import fingerprint
from workbench.models.preprocessing import class_names

_BATCH = 32


def image_covariance(
    network: FeedForward, images: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "units units"]:
    """Mean of k kᵀ over the keys k of images, kept in the cache by model, block and images.

    Raises:
        InvalidInputError: these are no images.
    """
    check_images(images)
    digest = hashlib.sha256(images.detach().cpu().contiguous().numpy().data).hexdigest()
    return _kept(network, f"{digest[:16]}-{len(images)}", lambda: _covariance(keys_of(network, images)))


def source_covariance(network: FeedForward) -> Float[Tensor, "units units"]:
    """The same over the emoji drawings of the source styles that the model gets right.

    Raises:
        InvalidInputError: the model does not classify the emoji kinds, or gets none of them right.
        MissingDataError: the drawings are not here.
    """
    if class_names(network.model) != _emoji_kinds():
        raise InvalidInputError(
            "this model has other classes than the emoji kinds, so there are no default keys; pass keys=IMAGES, some "
            "that it gets right, or covariance='identity' for the plain smallest change"
        )
    return _kept(network, f"source-{len(classified())}", lambda: _covariance(_right_keys(network)))


def keys_of(
    network: FeedForward, images: Float[Tensor, "n 3 height width"]
) -> Iterator[Float[Tensor, "b units"]]:
    """Keys of images, some at a time: hidden activations at the class token, or averaged over the pooled tokens."""
    read = read_tokens(network.model)
    for chunk in images.split(_BATCH):
        with torch.no_grad():
            yield network.hidden(network.tokens(chunk))[:, read].mean(1)


def _right_keys(network: FeedForward) -> Iterator[Float[Tensor, "b units"]]:
    read, rows = read_tokens(network.model), classified()
    labels = torch.from_numpy(emoji.labels()[rows]).to(network.split.device)
    for style in emoji.styles("source"):
        images = emoji.on_white(emoji.drawings(style)[rows])
        for chunk, wanted in zip(images.split(_BATCH), labels.split(_BATCH), strict=True):
            tokens = network.tokens(chunk)
            with torch.no_grad():
                hidden = network.hidden(tokens)
                right = network.logits(tokens, network.mlp.fc2(hidden)).argmax(1) == wanted
                yield hidden[right][:, read].mean(1)


def _covariance(keys: Iterable[Float[Tensor, "b units"]]) -> Float[Tensor, "units units"]:
    total, count = None, 0
    for part in keys:
        wide = part.double()
        total = wide.T @ wide if total is None else total.addmm_(wide.T, wide)
        count += len(part)
    if total is None or not count:
        raise InvalidInputError(
            "the model gets none of the default keys right; pass keys=IMAGES that it does"
        )
    return (total / count).float().cpu()


def _kept(
    network: FeedForward, what: str, compute: Callable[[], Float[Tensor, "units units"]]
) -> Float[Tensor, "units units"]:
    """Read a covariance from the cache, or compute it and keep it there."""
    from safetensors.torch import save_file

    path = cache_dir() / "keys" / f"{fingerprint(network.model)[:16]}-{network.block}-{what}.safetensors"
    if not path.exists():
        found = compute()
        with atomic_path(path) as temporary:
            save_file({"covariance": found}, temporary)
    return read_tensors(path)["covariance"]


def _emoji_kinds() -> tuple[str, ...]:
    """The emoji kinds; none where the drawings are not here to tell."""
    try:
        return emoji.kinds()
    except MissingDataError:
        return ()
