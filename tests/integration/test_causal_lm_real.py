"""SmolLM2 as a model of transformers: the tokens that Session gives, and a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, pipeline

from glass_export import GlassForCausalLM, Session

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.mark.parametrize(
    "selection", [{"density": 1.0}, {"density": 0.5}, {"refresh": 8, "dense_start": 4}], ids=str
)
def test_greedy_answers_are_those_of_a_session(
    smollm2: Callable[[str], Path], selection: dict[str, Any]
) -> None:
    artifact = smollm2("onnx")
    with Session.open(artifact) as session:
        expected = session.generate(QUESTION, max_new_tokens=32, **selection).text
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    model = GlassForCausalLM.from_pretrained(artifact, **selection)
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    (answer,) = generator(QUESTION, max_new_tokens=32, do_sample=False)
    model.close()
    assert answer["generated_text"][-1]["content"] == expected
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)["input_ids"]
    mask = session.text.score_mask(ids, "user")
    assert mask.tolist() == session.text.encode(QUESTION, "user")[1].tolist()
    words = [token for token, scored in zip(ids, mask, strict=True) if scored]
    assert tokenizer.decode(words) == QUESTION[0]["content"]
