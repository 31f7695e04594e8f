"""The two graphs as torch modules.

Legend: T prompt tokens of a call, N wanted logit rows, L layers (of scores and indices: rows, one
for every expert of a layer that has some), F FFN width, K kept neurons,
G key/value heads, C cache length, E head width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glass_export import ops
from glass_export.nn.state import PassThroughCache, StepState, step


def _logits(
    model: PreTrainedModel, input_ids: Tensor, state: StepState, keep: Tensor | int
) -> Tensor:
    positions = ops.positions(input_ids, state.position)
    with step(state):
        output = model(
            input_ids=input_ids,
            position_ids=positions,
            past_key_values=PassThroughCache(),
            use_cache=True,
            logits_to_keep=keep,
        )
    logits: Tensor = output.logits
    return logits


def _rows(sums: list[Tensor]) -> Tensor:
    """One sum [F] a layer, or [E,F] where a layer has experts, under each other: [L,F]."""
    if all(one.dim() == 1 for one in sums):
        return torch.stack(sums)
    return torch.cat([one.reshape(-1, one.shape[-1]) for one in sums])


class PrefillModule(nn.Module):
    """Dense pass over prompt tokens that also sums the local scores of every FFN neuron."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        position: Tensor,
        score_weights: Tensor,
        logit_rows: Tensor,
        key_caches: list[Tensor],
        value_caches: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Run T tokens from ``position`` on; logits are those of ``logit_rows``.

        Shape: input_ids [1,T], position [1], score_weights [T], logit_rows [N], caches
        L x [1,G,C,E] -> logits [1,N,V], abs_sum [L,F], sq_sum [L,F], caches.
        """
        state = StepState(position, list(key_caches), list(value_caches), score_weights)
        logits = _logits(self.model, input_ids, state, logit_rows)
        return (
            logits,
            _rows(state.abs_sums),
            _rows(state.sq_sums),
            state.key_caches,
            state.value_caches,
        )


class DecodeModule(nn.Module):
    """One token through the chosen neurons."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        position: Tensor,
        ffn_idx: Tensor,
        key_caches: list[Tensor],
        value_caches: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run one token at ``position`` with the neurons ``ffn_idx``.

        Shape: input_ids [1,1], position [1], ffn_idx int32 [L,K], caches L x [1,G,C,E]
        -> logits [1,1,V], caches.
        """
        state = StepState(position, list(key_caches), list(value_caches), indices=ffn_idx)
        logits = _logits(self.model, input_ids, state, 0)
        return logits, state.key_caches, state.value_caches
