"""Look at, or change, the activations h that enter the down projections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export.nn.experts import WatchedExperts
from glass_export.nn.ffn import replaced_ffns
from glass_export.spec import FfnSite


@contextmanager
def down_hooks(
    model: PreTrainedModel, sites: list[FfnSite], make: Callable[[int], Callable[..., Any]]
) -> Iterator[None]:
    """Pre-hooks on the down projections, whose input is the FFN activation h [B,S,F].

    Each expert has a hook of its own; h is 0 at tokens that were not routed to it.

    Args:
        model: Holds the FFNs.
        sites: Where they are.
        make: Gives the hook of a row of scores, by its number: of a layer or of an expert.
    """
    batch = _BatchSize()
    with ExitStack() as undo:
        decoder = model.get_decoder().register_forward_pre_hook(batch, with_kwargs=True)
        undo.callback(decoder.remove)
        for site in sites:
            if site.experts:
                hooks = [_batched(make(site.row + e), batch) for e in range(site.experts)]
                form = partial(_HookedExperts, model, hooks=hooks)
                undo.enter_context(replaced_ffns(model, [site], form))
                continue
            down = model.get_submodule(site.linears[-1])
            hook = _batched(make(site.row), batch)
            undo.callback(down.register_forward_pre_hook(hook).remove)
        yield


class _HookedExperts(WatchedExperts):
    """Experts, each with a pre-hook of its down projection."""

    def __init__(
        self, model: nn.Module, site: FfnSite, hooks: Sequence[Callable[..., Any]]
    ) -> None:
        super().__init__(model, site, self._show)
        self._hooks = hooks
        self._tokens = 0

    def __call__(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """See Experts."""
        self._tokens = len(x)
        idle = x.new_zeros(self._tokens, self.site.d_ff)
        for expert in set(range(self.site.experts)).difference(index.unique().tolist()):
            self._hooks[expert](self._module, (idle,))
        return super().__call__(x, index, weight)

    def _show(self, expert: int, tokens: Tensor, hidden: Tensor) -> Tensor:
        """See Watch. Shape: [n], [n,F] -> [n,F]."""
        whole = hidden.new_zeros(self._tokens, hidden.shape[1]).index_copy(0, tokens, hidden)
        changed = self._hooks[expert](self._module, (whole,))
        return hidden if changed is None else changed[0][tokens]


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
