"""Logits of hidden states, by the model's own head."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from glass_export.nn.head import logits_of


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
@torch.no_grad()
def test_logits_have_the_scale_and_cap_of_the_model(family: str) -> None:
    model, tokens = tiny_model(family, layers=1), torch.arange(9)[None]
    hidden = model.model(input_ids=tokens).last_hidden_state
    wanted = model(input_ids=tokens).logits
    for rows, expected in ((hidden, wanted), (hidden[0, 3], wanted[0, 3])):
        torch.testing.assert_close(logits_of(model, rows), expected)
    torch.testing.assert_close(model(input_ids=tokens).logits, wanted)
