"""The way from a decoder's hidden states to logits."""

from __future__ import annotations

from unittest.mock import patch

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits that ``model`` makes of hidden states: its output head, and scales and caps.

    The model's own forward method runs, with its decoder giving ``hidden`` as it is.

    Shape: [..,S,D] -> [..,S,V].
    """
    rows = hidden.reshape(1, -1, hidden.shape[-1])
    decoder = model.get_decoder()
    output = BaseModelOutputWithPast(last_hidden_state=rows)
    with patch.object(decoder, "forward", lambda *_, **__: output):
        logits: Tensor = model(inputs_embeds=rows, use_cache=False).logits
    return logits.reshape(*hidden.shape[:-1], -1)
