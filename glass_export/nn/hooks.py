"""Look at, or change, the activations h that enter the down projections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from glass_export.spec import FfnSite


@contextmanager
def down_hooks(
    model: nn.Module, sites: list[FfnSite], make: Callable[[int], Callable[..., Any]]
) -> Iterator[None]:
    """Pre-hooks on the down projections, whose input is the FFN activation h.

    Args:
        model: Holds the FFNs.
        sites: Where they are.
        make: Gives the hook of a layer, by its number.
    """
    with ExitStack() as undo:
        for site in sites:
            down = model.get_submodule(f"{site.path}.{site.down}")
            undo.callback(down.register_forward_pre_hook(make(site.layer)).remove)
        yield
