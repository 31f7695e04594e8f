"""A small but real engine and real tokenizers, to test the driver with."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from glass_export.recipe import SelectionRecipe
from glass_export.runtime import Session
from glass_export.runtime.base import (
    FloatArray,
    IndexArray,
    LocalStatistics,
    PrefillResult,
    TokenArray,
)
from glass_export.runtime.chat_template import ChatTemplate
from glass_export.runtime.text import TextCodec
from glass_export.spec import ModelDims, Statistic

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "Hello world, how are you today? I am fine, thank you.",
    "user assistant system the answer to the question is",
] * 4
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ToyBackend:
    """A transformer in NumPy: L layers of one attention head and a gated FFN, with a cache.

    It computes what the protocol asks for: scores, chosen neurons, and overwriting of positions.
    Positions beyond those written are NaN, so reading one shows in the logits.
    """

    def __init__(self, vocab_size: int, *, max_length: int = 64, prefill_chunk: int = 8) -> None:
        self.dims = ModelDims(
            layers=2, d_model=16, d_ff=24, heads=1, kv_heads=1, head_dim=16, vocab_size=vocab_size
        )
        self.max_length, self.prefill_chunk = max_length, prefill_chunk
        rng = np.random.default_rng(0)
        layers, width, hidden = self.dims.layers, self.dims.d_model, self.dims.d_ff
        self._embed = rng.standard_normal((vocab_size, width))
        self._place = rng.standard_normal((max_length, width)) * 0.3
        self._qkv = rng.standard_normal((layers, 3, width, width)) / 4
        self._ffn = rng.standard_normal((layers, 3, hidden, width)) / 4
        self._keys = np.full((layers, max_length, width), np.nan)
        self._values = np.full((layers, max_length, width), np.nan)
        self._neurons: IndexArray | None = None
        self.prefills: list[tuple[int, int]] = []
        self.closed = False

    def prefill(
        self,
        tokens: TokenArray,
        position: int,
        score_weights: FloatArray,
        logit_rows: TokenArray,
    ) -> PrefillResult:
        assert 1 <= tokens.size <= self.prefill_chunk and position + tokens.size <= self.max_length
        self.prefills.append((position, tokens.size))
        statistics = LocalStatistics.zeros(self.dims.layers, self.dims.d_ff)
        statistics.tokens = float(score_weights.sum())
        x = self._run(tokens, position, None, statistics, score_weights)
        return PrefillResult(self._logits(x[logit_rows]), statistics)

    def select(self, indices: IndexArray | None) -> None:
        self._neurons = indices

    def decode(self, token: int, position: int) -> FloatArray:
        assert position < self.max_length
        x = self._run(np.array([token]), position, self._neurons, None, None)
        logits: FloatArray = self._logits(x)[0]
        return logits

    def close(self) -> None:
        self.closed = True

    def _logits(self, x: NDArray[np.float64]) -> FloatArray:
        return np.asarray(x @ self._embed.T, np.float32)

    def _run(
        self,
        tokens: TokenArray,
        position: int,
        neurons: IndexArray | None,
        statistics: LocalStatistics | None,
        weights: FloatArray | None,
    ) -> NDArray[np.float64]:
        stop = position + tokens.size
        x = self._embed[tokens] + self._place[position:stop]
        future = np.arange(stop) > np.arange(position, stop)[:, None]
        for layer in range(self.dims.layers):
            q, k, v = (x @ w for w in self._qkv[layer])
            self._keys[layer, position:stop], self._values[layer, position:stop] = k, v
            scores = np.where(future, -np.inf, q @ self._keys[layer, :stop].T / 4)
            attention = np.exp(scores - scores.max(-1, keepdims=True))
            x = x + attention / attention.sum(-1, keepdims=True) @ self._values[layer, :stop]
            rows = slice(None) if neurons is None else neurons[layer][neurons[layer] >= 0]
            gate, up, down = self._ffn[layer][:, rows]
            normal = x / np.linalg.norm(x, axis=-1, keepdims=True) * 4
            h = np.maximum(normal @ gate.T, 0) * (normal @ up.T)
            x = x + h @ down
            if statistics is not None and weights is not None:
                u = np.abs(h) / np.maximum(np.linalg.norm(h, axis=-1, keepdims=True), 1e-9)
                statistics.abs_sum[layer] = weights @ u
                statistics.sq_sum[layer] = weights @ u**2
        return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True) * 4)


def byte_level_bpe() -> Tokenizer:
    """Like SmolLM2's and Qwen's: bytes as letters, chat marks as special tokens, no BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback_bpe(strip: bool = False) -> Tokenizer:
    """Like Gemma's (and, with ``strip``, Llama 2's): spaces as U+2581, bytes as <0xXX>, a BOS."""
    names = ["<bos>", "<eos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    space = normalizers.Replace(" ", "\u2581")
    learner.normalizer = space
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("(?=\u2581)"), "isolated")
    trainer = BpeTrainer(vocab_size=380, special_tokens=names, show_progress=False)
    learner.train_from_iterator(CORPUS, trainer)
    vocabulary = learner.get_vocab()
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("\u2581"), space]) if strip else space
    )
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * strip)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names[:3]])
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level_bpe,
    "byte fallback": byte_fallback_bpe,
    "byte fallback, stripped": lambda: byte_fallback_bpe(strip=True),
}


@pytest.fixture(scope="session", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each kind of tokenizer in turn."""
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="session")
def chat() -> TextCodec:
    """Byte-level tokenizer with a ChatML template."""
    return TextCodec(byte_level_bpe(), template=ChatTemplate(TEMPLATE, {"eos_token": "<|im_end|>"}))


@pytest.fixture(scope="session")
def sentencepiece() -> Tokenizer:
    """A tokenizer that adds a BOS."""
    return byte_fallback_bpe()


@pytest.fixture
def make_session(chat: TextCodec) -> Callable[..., Session]:
    """``make_session(eos=(), **backend options)``: a session over the toy engine."""

    def make(*, eos: tuple[int, ...] = (), text: TextCodec = chat, **options: int) -> Session:
        backend = ToyBackend(chat.tokenizer.get_vocab_size(), **options)
        shape = backend.dims.layers, backend.dims.d_ff
        names: tuple[Statistic, ...] = ("A", "G", "I")
        rng = np.random.default_rng(1)
        priors = {name: rng.random(shape, dtype=np.float32) for name in names}
        defaults = SelectionRecipe(mode="fixed")
        return Session(backend, text, priors=priors, defaults=defaults, eos_token_ids=eos)

    return make
