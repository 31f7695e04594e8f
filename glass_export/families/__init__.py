"""Model families: one module per Hugging Face ``model_type`` that tells where the FFNs are.

A family module defines ``MODEL_TYPE`` and ``find_ffns(model) -> list[FfnSite]``. Everything else of
a model is taken from its Hugging Face module by tracing.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from glass_export.errors import UnsupportedModelError
from glass_export.schema import choices
from glass_export.spec import FfnSite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHARED = {"activations", "experts", "gated", "plain"}


def known_families() -> list[str]:
    """Hugging Face model types that can be exported."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _SHARED)


def check_family(model_type: str) -> None:
    """Raise UnsupportedModelError, listing the known families, when ``model_type`` has none."""
    known = known_families()
    if model_type not in known:
        raise UnsupportedModelError(
            f"model family {model_type!r} is not supported; {choices(model_type, known)}; "
            "docs/add_a_family.md tells how to add one"
        )


def find_ffns(model: PreTrainedModel) -> list[FfnSite]:
    """Locate the FFN of every layer.

    Raises:
        UnsupportedModelError: the family is not known, or its FFN is of another form.
    """
    model_type = model.config.model_type
    check_family(model_type)
    family = importlib.import_module(f"{__name__}.{model_type}")
    sites: list[FfnSite] = family.find_ffns(model)
    return sites
