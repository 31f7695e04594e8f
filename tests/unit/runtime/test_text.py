"""Prompts to tokens, and masks of the user's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from glass_export.errors import ArtifactError, GenerationError
from glass_export.runtime.chat_template import ChatTemplate
from glass_export.runtime.text import TextCodec

TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\n"
        "    {% set first = messages[0]['content'] + '\n\n' %}\n"
        "    {% set turns = messages[1:] %}\n"
        "{% else %}\n    {% set first = '' %}\n    {% set turns = messages %}\n{% endif %}\n"
        "{% for m in turns %}\n"
        "    {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
        "        {{ raise_exception('roles must alternate') }}\n    {% endif %}\n"
        "{{ '<turn>' + m['role'] + '\n' + (first if loop.first else '') + (m['content'] | trim) }}"
        "<end>\n{% endfor %}\n{% if add_generation_prompt %}<turn>model\n{% endif %}"
    ),
    "features": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'skip' %}"
        "{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}[{{ ns.n }} {{ m | tojson(indent=1) }}]"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ tools is none }}"
        "{{ eos_token }}{{ missing }}{{ strftime_now('%Y') }}"
    ),
}
VARIABLES = {"bos_token": "<bos>", "eos_token": "<eos>"}
CONVERSATION = [
    {"role": "system", "content": "You are <b>kind</b> & brief."},
    {"role": "user", "content": "  user says: user? é 日本語  "},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Hello"},
]


def user_text(text: str, spans: list[tuple[int, int]]) -> list[str]:
    return [text[start:stop] for start, stop in spans]


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendering_is_that_of_transformers(name: str) -> None:
    options: dict[str, Any] = {"chat_template": TEMPLATES[name], "add_generation_prompt": True}
    expected = render_jinja_template([CONVERSATION], **options | VARIABLES)[0][0]
    assert ChatTemplate(TEMPLATES[name], VARIABLES).render(CONVERSATION) == expected


@pytest.mark.parametrize(("name", "trimmed"), [("chatml", False), ("gemma", True)])
def test_spans_are_the_users_words_only(name: str, trimmed: bool) -> None:
    """The words 'user' of the template and 'Hello' of the assistant are not taken for them."""
    text, spans = ChatTemplate(TEMPLATES[name], VARIABLES).render_spans(CONVERSATION)
    first = CONVERSATION[1]["content"]
    assert user_text(text, spans) == [first.strip() if trimmed else first, "Hello"]


@pytest.mark.parametrize(
    ("template", "content"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "a\ufdd0b"),
        ("{% for m in messages %}{{ m.content | length }}{% endfor %}", "abc"),
        ("{{ messages | length }}", "abc"),
    ],
)
def test_no_spans_where_the_template_changes_the_words(template: str, content: str) -> None:
    compiled = ChatTemplate(template, {})
    messages = [{"role": "user", "content": content}]
    assert compiled.render_spans(messages) == (compiled.render(messages), [])


def test_a_template_that_refuses_says_so() -> None:
    template = ChatTemplate(TEMPLATES["gemma"], VARIABLES)
    with pytest.raises(GenerationError, match="roles must alternate"):
        template.render([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_templates_are_kept_in_the_sandbox(source: str) -> None:
    try:
        rendered = ChatTemplate(source, {}).render([{"role": "user", "content": "a"}])
    except GenerationError:
        return
    assert rendered == ""


@pytest.mark.parametrize(
    "messages", [[], ["text"], [{"role": "user"}], [{"role": "user", "content": 3}]]
)
def test_malformed_messages_are_errors(messages: Any) -> None:
    with pytest.raises(GenerationError, match="messages"):
        ChatTemplate(TEMPLATES["chatml"], {}).render(messages)


def test_broken_template_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="not valid Jinja"):
        ChatTemplate("{% if %}", {})


def test_chat_mask_covers_exactly_the_users_tokens(chat: TextCodec) -> None:
    ids, mask = chat.encode_chat(CONVERSATION)
    assert chat.tokenizer.decode(ids, skip_special_tokens=False) == chat.template.render(  # type: ignore[union-attr]  # the fixture has one
        CONVERSATION
    )
    scored = [index for index, weight in zip(ids, mask, strict=True) if weight]
    assert chat.decode(scored) == CONVERSATION[1]["content"] + "Hello"


def test_chat_mask_falls_back_to_all_ordinary_tokens(chat: TextCodec) -> None:
    template = ChatTemplate("<|im_start|>{{ messages[0].content | upper }}<|im_end|>", {})
    codec = TextCodec(chat.tokenizer, template=template)
    _, mask = codec.encode_chat([{"role": "user", "content": "abc"}])
    assert mask[0] == mask[-1] == 0 and mask[1:-1].all()


def test_a_prompt_of_special_tokens_only_is_scored(chat: TextCodec) -> None:
    ids, mask = chat.encode_text("<|im_start|>")
    assert len(ids) == 1 and mask.tolist() == [1.0]


@pytest.mark.parametrize(
    "messages",
    [CONVERSATION[:2], CONVERSATION[1:2], CONVERSATION, CONVERSATION[1:]],
    ids=["system", "turn", "system, turns", "turns"],
)
def test_tokens_alone_tell_the_users_words(chat: TextCodec, messages: Any) -> None:
    ids, mask = chat.encode(messages, "user")
    assert 0 < mask.sum() < len(ids)
    assert chat.score_mask(ids, "user").tolist() == mask.tolist()
    assert chat.score_mask(ids, "all").tolist() == [1.0] * len(ids)


def test_tokens_of_a_template_with_a_bos_tell_the_users_words(sentencepiece: Tokenizer) -> None:
    codec = TextCodec(sentencepiece, template=ChatTemplate(TEMPLATES["gemma"], VARIABLES))
    ids, mask = codec.encode(CONVERSATION[1:], "user")
    assert codec.score_mask(ids, "user").tolist() == mask.tolist()
    # A system message becomes part of the user's turn, where tokens alone do not tell it apart.
    ids, mask = codec.encode(CONVERSATION, "user")
    assert (codec.score_mask(ids, "user") >= mask).all()


@pytest.mark.parametrize(
    ("template", "frame"),
    [
        (TEMPLATES["chatml"], ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")),
        (TEMPLATES["gemma"], ("<turn>user\n", "<end>\n<turn>")),
        ("{{ messages[0].content }}", None),
        ("{{ raise_exception('no') }}", None),
        ("A{{ messages[0].content }}B{{ raise_exception('') if messages[1] }}", ("A", "B")),
    ],
)
def test_what_stands_around_a_users_words(template: str, frame: tuple[str, str] | None) -> None:
    assert ChatTemplate(template, VARIABLES).user_frame() == frame


def test_tokens_without_a_turn_are_scored_as_plain_text(chat: TextCodec) -> None:
    ids, mask = chat.encode("Hello world<|im_end|>", "user")
    assert chat.score_mask(ids, "user").tolist() == mask.tolist() == [1.0] * (len(ids) - 1) + [0.0]
    turn, _ = chat.encode([{"role": "user", "content": "Hello"}], "user")
    marks = {chat.tokenizer.token_to_id(name) for name in ("<|im_start|>", "<|im_end|>")}
    cut = turn[: turn.index(chat.tokenizer.token_to_id("<|im_end|>"))]  # no end of the turn
    (word,) = (i for i, id_ in enumerate(turn) if chat.tokenizer.decode([id_]) == "Hello")
    odd = [*turn[:word], *(chat.tokenizer.token_to_id(c) for c in "Hello"), *turn[word + 1 :]]
    for tokens in (cut, odd):  # of odd, the text gives other tokens
        assert chat.score_mask(tokens, "user").tolist() == [float(t not in marks) for t in tokens]


def test_text_gets_the_bos_once_and_unscored(sentencepiece: Tokenizer) -> None:
    codec = TextCodec(sentencepiece, bos_token="<bos>")
    bos = sentencepiece.token_to_id("<bos>")
    for text in ("Hello world", "<bos>Hello world"):
        ids, mask = codec.encode_text(text)
        assert ids[0] == bos and ids.count(bos) == 1
        assert mask[0] == 0 and mask[1:].all()


def test_chat_never_doubles_the_bos(sentencepiece: Tokenizer) -> None:
    for head, expected in (("{{ bos_token }}", 1), ("", 0)):
        template = ChatTemplate(head + "{{ messages[0].content }}", VARIABLES)
        ids, _ = TextCodec(sentencepiece, template=template).encode_chat(
            [{"role": "user", "content": "Hello"}]
        )
        assert [sentencepiece.id_to_token(index) for index in ids].count("<bos>") == expected


def test_truncation_and_padding_of_the_file_are_ignored(chat: TextCodec) -> None:
    other = Tokenizer.from_str(chat.tokenizer.to_str())
    other.enable_truncation(3)
    other.enable_padding(length=100)
    text = "Hello world, how are you?"
    assert TextCodec(other).encode_text(text)[0] == chat.encode_text(text)[0]


def test_open_reads_the_template_of_either_file(chat: TextCodec, tmp_path: Path) -> None:
    tokenizer, config, template = (tmp_path / name for name in ("t.json", "c.json", "t.jinja"))
    tokenizer.write_text(chat.tokenizer.to_str())
    template.write_text("file {{ eos_token }}")
    messages = [{"role": "user", "content": "a"}]
    named = [{"name": "tool", "template": "no"}, {"name": "default", "template": "named"}]
    for source, expected in (("config {{ eos_token }}", "config <e>"), (named, "named")):
        config.write_text(json.dumps({"eos_token": {"content": "<e>"}, "chat_template": source}))
        codec = TextCodec.open(tokenizer, config, None)
        assert codec.template is not None and codec.template.render(messages) == expected
    codec = TextCodec.open(tokenizer, config, template)
    assert codec.template is not None and codec.template.render(messages) == "file <e>"
    with pytest.raises(GenerationError, match="plain string"):
        TextCodec.open(tokenizer, None, None).encode_chat(messages)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_files_are_artifact_errors(chat: TextCodec, tmp_path: Path, content: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(chat.tokenizer.to_str())
    bad.write_text(content)
    with pytest.raises(ArtifactError, match=r"bad\.json"):
        TextCodec.open(bad, None, None)
    with pytest.raises(ArtifactError, match=r"bad\.json"):
        TextCodec.open(good, bad, None)
