"""Vision transformers over timm: loading, checking, and the split into a frozen prefix and an editable tail."""

from workbench.models.inference import logits_of
from workbench.models.loading import ModelCard, check_vit, fingerprint, list_models, load_model, model_card
from workbench.models.prefix_cache import PrefixCache
from workbench.models.preprocessing import normalize
from workbench.models.split import SplitViT
from workbench.models.token_store import TokenStore

__all__ = [
    "ModelCard",
    "PrefixCache",
    "SplitViT",
    "TokenStore",
    "check_vit",
    "fingerprint",
    "list_models",
    "load_model",
    "logits_of",
    "model_card",
    "normalize",
]
