"""Where text of a model itself starts: from nothing, or from its chat template."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tiny_models import tiny_model, tiny_tokenizer

from glass_export import package
from glass_export.errors import RecipeError
from glass_export.load import LoadedModel
from glass_export.manifest import SourceInfo

BEGIN, END = 0, 1  # of the tiny tokenizer
SYSTEM = (
    "{{ bos_token }}You help.</s>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def loaded(template: str | None = SYSTEM, **changes: Any) -> LoadedModel:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    source = SourceInfo(kind="local", reference="tiny", sha256="0" * 64)
    model = LoadedModel(tiny_model("llama"), tokenizer, source, (END, 3), BEGIN)
    return replace(model, **changes)


@pytest.mark.parametrize("template", [SYSTEM, tiny_tokenizer().chat_template])
@pytest.mark.parametrize("words", ["the quick brown fox", "dog", "over <|user|> over"])
def test_what_is_around_the_words_is_the_templates(template: str, words: str) -> None:
    model = loaded(template)
    prefix = package.template_prompt(model)["prefix"]
    own = model.tokenizer.encode(words, add_special_tokens=False)
    whole = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": words}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert [*prefix, *own, *package.answer_turn(model)] == whole


def test_text_from_the_template_stops_as_text_from_nothing_does() -> None:
    model = loaded()
    null, template = package.null_prompt(model), package.template_prompt(model)
    assert null == {"prefix": (BEGIN,), "stop_ids": (END,)}
    assert template["stop_ids"] == (END,) and template["prefix"][0] == BEGIN
    assert set(null) == set(template)


def test_text_from_nothing_starts_with_its_end_where_there_is_no_begin() -> None:
    assert package.null_prompt(loaded(bos_token_id=None))["prefix"] == (END,)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the model has no chat template"),
        ("{{ bos_token }}<|user|><|assistant|>", "does not show a user's words"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}<|assistant|>", "behind any of its"),
    ],
)
def test_templates_that_no_text_can_start_from(template: str | None, message: str) -> None:
    with pytest.raises(RecipeError, match=f"prior text 'template': .*{message}.*use 'null'"):
        package.template_prompt(loaded(template))


@pytest.mark.parametrize("template", [None, "{{ bos_token }}<|user|><|assistant|>"])
def test_templates_without_an_answers_turn(template: str | None) -> None:
    with pytest.raises(RecipeError, match="prior text 'template'"):
        package.answer_turn(loaded(template))
