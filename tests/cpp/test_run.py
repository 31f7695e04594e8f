"""The driver's tokenizer and chat templates against Python's, which are the definition."""

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

from glass_export import llama_cpp
from glass_export.errors import GenerationError
from glass_export.runtime.chat_template import ChatTemplate
from glass_export.runtime.text import TextCodec

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
            [native_tests / "csrc" / "run" / "test_run_text", tmp_path],
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
    assert "tokenizer.json: " in caught.value.stderr
    assert "use an artifact with" in caught.value.stderr


def turns(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation: user and assistant in turn."""
    roles = ("user", "assistant")
    said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return said if system is None else [{"role": "system", "content": system}, *said]


CONVERSATIONS = (
    turns("Hello"),
    turns("Why is the sky blue?", system="You are a pirate."),
    turns("  two\n lines \n", "An answer.\n", "é😀 你好 'quoted' \"twice\""),
    turns("a", " b ", "c", "d", "e<|im_end|>f", system=" spaces "),
    turns("hi", system=""),
    turns("   "),
    turns("one", "two"),
    [*turns("x"), *turns("y")],
)


# Uses variables that are not given: Python's Jinja fails, llama.cpp's writes nothing.
REFUSED = {"fireworks-ai-llama-3-firefunction-v2"}  # it has filter blocks


def request(kind: str, messages: list[dict[str, str]]) -> str:
    said = (f"{message['role']}:{message['content'].encode().hex()}" for message in messages)
    return f"{kind} {' '.join(said)}"


def saved(tokenizer: Tokenizer, template: str, folder: Path) -> TextCodec:
    """The tokenizer and the template as files of an artifact, read by Python."""
    files = [
        folder / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    ]
    tokenizer.save(str(files[0]))
    files[1].write_text(json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}}))
    files[2].write_text(template, encoding="utf-8")
    return TextCodec.open(*files)


def test_renders_templates_of_many_models_as_python(run: Run, tmp_path: Path) -> None:
    """Those that llama.cpp ships."""
    tokenizer, refused, different, same = smol(), set(), set(), 0
    requests = [request("render", messages) for messages in CONVERSATIONS]
    for path in sorted((llama_cpp.fetch() / "models" / "templates").glob("*.jinja")):
        saved(tokenizer, path.read_text(encoding="utf-8"), tmp_path)
        names = {"bos_token": "<s>", "eos_token": "</s>"}
        template = ChatTemplate(path.read_text(encoding="utf-8"), names)
        try:
            answers = run(requests)
        except subprocess.CalledProcessError as problem:
            assert "chat template: not supported" in problem.stderr
            refused.add(path.stem)
            continue
        for messages, answer in zip(CONVERSATIONS, answers, strict=True):
            try:
                expected = template.render(messages).encode().hex()
            except GenerationError:
                expected = "failed"
            if answer.partition(":")[0].strip() == expected:
                same += 1
            else:
                different.add(path.stem)
    assert (refused, different) == (REFUSED, set())
    assert same > 400


@pytest.mark.parametrize(
    "said",
    ["Roles must alternate", "std::bad_alloc", "a: b", "\\nError executing x: std::bad_alloc"],
)
@pytest.mark.parametrize("place", ["{{ X }}", "{% if true %}{{ X }}{% endif %}", "{% set a = X %}"])
def test_says_why_a_template_refuses_the_messages_as_python(
    said: str, place: str, run: Run, tmp_path: Path
) -> None:
    """Whatever the words are: they are not taken for a failure of the engine."""
    codec = saved(smol(), place.replace("X", f"raise_exception('{said}')"), tmp_path)
    with pytest.raises(GenerationError) as refused:
        codec.encode(CONVERSATIONS[0], "user")
    message = str(refused.value).replace("\n", "?")  # as control characters are shown
    assert run([request("render", CONVERSATIONS[0])]) == [f"failed: {message}"]


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
TRIMS = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} {% endfor %}"


@pytest.mark.parametrize("template", [CHATML, TRIMS], ids=["chatml", "trims"])
@pytest.mark.parametrize("kind", KINDS[:-1], ids=lambda kind: kind.__name__)
def test_scores_the_users_words_as_python(
    kind: Callable[[], Tokenizer], template: str, run: Run, tmp_path: Path
) -> None:
    """Tokens of a conversation, and which of them count in the local scores. The last kind has
    unknown tokens, whose place in the text is not known: all words count there.
    """
    codec = saved(kind(), template, tmp_path)
    answers = run([request("chat", messages) for messages in CONVERSATIONS])
    for messages, answer in zip(CONVERSATIONS, answers, strict=True):
        tokens, mask = codec.encode(messages, "user")
        expected = [f"{token}*{weight:g}" for token, weight in zip(tokens, mask, strict=True)]
        assert answer.split() == expected, messages
