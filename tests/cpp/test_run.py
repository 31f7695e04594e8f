"""The tokenizer of glass_run against the tokenizers library, which is the definition."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre
from tokenizers.trainers import BpeTrainer

TEXTS = (
    "The quick brown fox isn't lazy; it's I'LL, they've 12345 things at 3.14%!",
    "def fib(n):\n    if n < 2:\n        return n\n\n\n\treturn fib(n-1)  # a.b(c)[0]->d\r\n",
    "  leading", "trailing   ", "   ", "\n", "\n\n \n x\u00a0y\u3000z\u2003w \u0085",
    "emoji 😀👨‍👩‍👧‍👦🏳️‍🌈", "你好，世界！日本語のテキスト 한국어", "Привет नमस्ते مرحبا ١٢٣ ²½Ⅷ",
    "café cafe\u0301 A\u030a \u1e9b\u0323 \u1100\u1161\u11a8 q\u0307\u0323 \u212b ſ'ſ",
    "<|im_start|>user\nhi<|im_end|> <tool>x</tool><tool><s>", "<0x41> ▁▁",
    "\x00\x01\x7f\ufeff\u200b 𝕳",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "http://example.com/?q=1&b=2 <html></html>",
)  # fmt: skip
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<s>", "<|im_start|>", "<|im_end|>")


def smol() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre.Sequence([pre.Digits(True), pre.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer, pre.ByteLevel.alphabet())


def qwen() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre.Split(Regex(QWEN), "isolated")
    tokenizer.pre_tokenizer = pre.Sequence([words, pre.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer, pre.ByteLevel.alphabet())


def llama3() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = trained(tokenizer, pre.ByteLevel.alphabet())
    begin = processors.TemplateProcessing(
        "<s> $A <|im_end|>", special_tokens=[("<s>", 1), ("<|im_end|>", 3)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), begin])
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return trained(tokenizer, [], (*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))))


def llama2() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(Regex(" "), "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    return trained(tokenizer, [], (*SPECIAL, "<unk>"))


def trained(
    tokenizer: Tokenizer, alphabet: list[str], special: tuple[str, ...] = SPECIAL
) -> Tokenizer:
    """Trained on a part of the texts, so that the others hold what it does not know."""
    trainer = BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, show_progress=False,
        special_tokens=[AddedToken(name, normalized=False) for name in special],
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS[:9], trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("</tool>")])
    return tokenizer


KINDS: tuple[Callable[[], Tokenizer], ...] = (smol, qwen, llama3, gemma, llama2)


Run = Callable[[list[str]], list[str]]


@pytest.fixture
def run(native_tests: Path, tmp_path: Path) -> Run:
    """``run(requests)``: the answers of test_run_text for the tokenizer in ``tmp_path``."""

    def ask(requests: list[str]) -> list[str]:
        done = subprocess.run(
            [native_tests / "run" / "test_run_text", tmp_path],
            input="".join(f"{request}\n" for request in requests),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    return ask


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    made: Tokenizer = request.param()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    return made


def random_texts() -> list[str]:
    random_numbers = random.Random(0)
    characters = sorted(set("".join(TEXTS)))
    return ["".join(random_numbers.choices(characters, k=n % 50 + 1)) for n in range(400)]


def test_encodes_as_the_library(tokenizer: Tokenizer, run: Run) -> None:
    texts = [*TEXTS, *random_texts()]
    answers = run([f"encode {text.encode().hex()}" for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        expected = tokenizer.encode(text).ids
        if expected[:2] == [1, 1]:  # TextCodec.encode_text drops a doubled BOS
            expected = expected[1:]
        assert [int(token) for token in answer.split()] == expected, text


def test_streams_what_the_library_decodes(tokenizer: Tokenizer, run: Run) -> None:
    random_numbers = random.Random(1)
    vocabulary = range(tokenizer.get_vocab_size())
    streams = [tokenizer.encode(text).ids for text in TEXTS]
    streams += [random_numbers.choices(vocabulary, k=n % 12 + 1) for n in range(300)]
    answers = run([f"decode {' '.join(map(str, ids))}" for ids in streams])
    for ids, answer in zip(streams, answers, strict=True):
        pieces = [bytes.fromhex(piece).decode("utf-8") for piece in answer.split()]
        assert "".join(pieces) == tokenizer.decode(ids), ids


def test_text_that_is_not_utf8_is_refused(tokenizer: Tokenizer, run: Run) -> None:
    for digits in ("ff", "c080", "eda080", "f4908080", "e4bd"):
        assert run([f"encode {digits}"])[0].startswith("failed: prompt: "), digits


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("decoder", {"type": "WordPiece"}),
        ("post_processor", {"type": "BertProcessing"}),
        ("model", {"type": "Unigram", "vocab": []}),
        ("model", {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}),
        ("model", {"type": "BPE", "vocab": {"a": -1}, "merges": []}),
    ],
)
def test_other_tokenizers_are_refused(part: str, value: object, run: Run, tmp_path: Path) -> None:
    description = json.loads(smol().to_str())
    description[part] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run([])
    assert caught.value.returncode == 1
    assert "tokenizer.json: " in caught.value.stderr and "--ids" in caught.value.stderr
