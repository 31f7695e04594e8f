"""The way from a decoder's hidden states to logits."""

from __future__ import annotations

from unittest.mock import patch

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast


class _Given(nn.Module):
    """Stands for a decoder whose hidden states are known.

    The output has the fields of every decoder's, those of a mixture of experts included.
    """

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.output = MoeModelOutputWithPast(last_hidden_state=hidden)

    def forward(self, *_: object, **__: object) -> MoeModelOutputWithPast:
        """Take anything, give the known."""
        return self.output


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits that ``model`` makes of hidden states: its output head, and scales and caps.

    The model's own forward method runs, but for its decoder.

    Shape: [..,S,D] -> [..,S,V].
    """
    rows = hidden.flatten(end_dim=-2)[None]
    decoder = model.get_decoder()
    path = next(name for name, module in model.named_modules() if module is decoder)
    parent, _, leaf = path.rpartition(".")
    with patch.dict(model.get_submodule(parent)._modules, {leaf: _Given(rows)}):
        logits: Tensor = model(inputs_embeds=rows, use_cache=False).logits
    return logits.reshape(*hidden.shape[:-1], logits.shape[-1])
