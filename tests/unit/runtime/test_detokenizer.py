"""Streaming never shows half a character, loses nothing, and hides stop strings."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer

from glass_export.runtime.detokenizer import Detokenizer, TextStream
from glass_export.runtime.text import TextCodec

TEXTS = [
    "The quick brown fox.",
    "  leading and   inner    spaces \n\n and lines\t",
    "emoji 👩‍👩‍👧‍👦 flags 🇫🇷 skin 👍🏽!",
    "日本語のテキスト。한국어 中文",
    "combining e\u0301 n\u0303 and Zalgo z\u0335\u0321",
    "a real replacement \ufffd character\ufffd",
    "العربية עברית हिन्दी ไทย",
    " ",
    "",
]


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.step(token) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_whole(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    shown = pieces(tokenizer, ids)
    assert "".join(shown) == tokenizer.decode(ids) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in shown)


def test_words_appear_as_soon_as_they_are_decoded(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXTS[0]).ids
    for count, piece in enumerate(pieces(tokenizer, ids)[:-1], start=1):
        assert piece == tokenizer.decode(ids[:count])[len(tokenizer.decode(ids[: count - 1])) :]


def test_any_tokens_at_all_give_the_whole(tokenizer: Tokenizer) -> None:
    """Invalid UTF-8, special tokens and cut characters included."""
    chooser = random.Random(0)
    size = tokenizer.get_vocab_size()
    byte_like = [i for i in range(size) if len(tokenizer.decode([i]).strip("\ufffd")) == 0]
    for _ in range(1000):
        pool = byte_like if chooser.random() < 0.5 else range(size)
        ids = [chooser.choice(pool) for _ in range(chooser.randrange(1, 25))]
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def stream(codec: TextCodec, text: str, *stop: str) -> tuple[str, bool, list[str]]:
    sent: list[str] = []
    output = TextStream(codec.detokenizer(), stop, sent.append)
    ended = any(output.write(token) for token in codec.encode_text(text)[0]) or output.close()
    assert output.text == "".join(sent)
    return output.text, ended, sent


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("Hello world, how are you", ["wor"], "Hello "),
        ("Hello world, how are you", ["you", "how"], "Hello world, "),
        ("Hello world", ["Hello"], ""),
        ("ab\n\nUser: x", ["\n\nUser:"], "ab"),
        ("aaab and", ["aab"], "a"),
        ("the dog", ["dog"], "the "),
        ("日本語。中文", ["。"], "日本語"),
    ],
)
def test_a_stop_string_ends_the_text_and_is_not_in_it(
    chat: TextCodec, text: str, stops: list[str], expected: str
) -> None:
    shown, ended, _ = stream(chat, text, *stops)
    assert (shown, ended) == (expected, True)


@pytest.mark.parametrize("stop", ["\n\nUser:", "worldly", "you today!", "zzz"])
def test_a_stop_string_that_only_begins_changes_nothing(chat: TextCodec, stop: str) -> None:
    text = "Hello world\n\nUse how are you today"
    assert stream(chat, text, stop)[:2] == (text, False)


def test_text_is_sent_in_pieces(chat: TextCodec) -> None:
    assert len(stream(chat, "Hello world, how are you", "!")[2]) > 3
