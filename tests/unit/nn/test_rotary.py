"""Rotary tables: which contexts a model can have."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CONFIGS, tiny_model

from glass_export.errors import UnsupportedModelError
from glass_export.nn.rotary import RotaryTables, check_context


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_can_have_the_context_it_was_trained_with(family: str) -> None:
    check_context(tiny_model(family, layers=1), 128)


def test_a_context_whose_angles_differ_from_a_short_text_s_is_refused() -> None:
    """Phi-3's longrope: other factors beyond the original context."""
    message = r"model\.rotary_emb: .* 129 tokens .* export\.max_length to at most 128"
    with pytest.raises(UnsupportedModelError, match=message):
        check_context(tiny_model("phi3", layers=1), 129)


@pytest.mark.parametrize("family", ["phi3", "qwen3"])
def test_tables_hold_the_scaling_of_attention(family: str) -> None:
    original = tiny_model(family, layers=1).model.rotary_emb
    cos, sin = RotaryTables(original, "rotary", 16, [])(torch.zeros(1), torch.zeros(1))
    assert original.attention_scaling > 1.05
    wanted = torch.full_like(cos, original.attention_scaling**2)
    torch.testing.assert_close(cos**2 + sin**2, wanted)
