"""Look at, or change, the activations h that enter the down projections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export.spec import FfnSite


@contextmanager
def down_hooks(
    model: PreTrainedModel, sites: list[FfnSite], make: Callable[[int], Callable[..., Any]]
) -> Iterator[None]:
    """Pre-hooks on the down projections, whose input is the FFN activation h [B,S,F].

    Args:
        model: Holds the FFNs.
        sites: Where they are.
        make: Gives the hook of a layer, by its number.
    """
    batch = _BatchSize()
    with ExitStack() as undo:
        decoder = model.get_decoder().register_forward_pre_hook(batch, with_kwargs=True)
        undo.callback(decoder.remove)
        for site in sites:
            down = model.get_submodule(site.linears[-1])
            hook = _batched(make(site.layer), batch)
            undo.callback(down.register_forward_pre_hook(hook).remove)
        yield


class _BatchSize:
    """A pre-hook of the decoder that keeps B, because some models join batch and sequence."""

    rows = 1

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
        self.rows = next(len(part) for part in tokens if part is not None)


def _batched(hook: Callable[..., Any], batch: _BatchSize) -> Callable[..., Any]:
    """Show h [B*S,F] or [B,S,F] to ``hook`` as [B,S,F]."""

    def apply(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        (hidden,) = inputs
        changed = hook(module, (hidden.reshape(batch.rows, -1, hidden.shape[-1]),))
        return None if changed is None else (changed[0].reshape(hidden.shape),)

    return apply
