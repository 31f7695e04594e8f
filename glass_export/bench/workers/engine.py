"""What a worker asks of a runtime, and the measurements, which are the same for all of them.

Legend: T tokens of a prompt, V vocabulary, N scored tokens.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """``engine`` with its version, and the vocabulary of the model that it has loaded.

    ``prefills``: whether it computes a prompt in one call, so that prefill can be timed.
    """

    engine: str
    vocab_size: int
    prefills: bool = True


class Engine(Protocol):
    """A runtime with a model and one conversation, made from the model's path.

    Making it imports the runtime; logits [V] are valid until the next call.
    """

    info: EngineInfo

    def load(self, threads: int, max_length: int) -> EngineInfo:
        """Load the model, and set ``info``.

        Args:
            threads: CPU threads.
            max_length: Context in tokens, for which memory is reserved.
        """
        ...

    def prefill(self, tokens: list[int], mask: list[float]) -> FloatArray:
        """Forget the conversation and run a prompt: logits of its last token.

        Args:
            tokens: Token ids [T].
            mask: 1 for tokens that count in the local scores, else 0 [T].
        """
        ...

    def select(self, density: float) -> dict[str, float]:
        """Choose the neurons of the next tokens; returns the times of its parts in ms."""
        ...

    def decode(self, token: int) -> FloatArray:
        """Append one token: logits of the token after it."""
        ...


class Conversation:
    """Times of a prompt and of the tokens after it; every next token is the most likely one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._token = 0

    def prefill(
        self, tokens: list[int], mask: list[float], density: float | None
    ) -> dict[str, float]:
        """Run a prompt and choose the neurons.

        Returns:
            ``prefill_ms``, the parts of the choice, and ``ttft_ms``: all of it up to the first
            token.
        """
        start = time.perf_counter()
        logits = self.engine.prefill(tokens, mask)
        prefilled = time.perf_counter()
        parts = {} if density is None else self.engine.select(density)
        self._token = int(np.argmax(logits))
        ttft = time.perf_counter() - start
        return {"prefill_ms": (prefilled - start) * 1e3, **parts, "ttft_ms": ttft * 1e3}

    def decode(self, count: int) -> float:
        """Generate ``count`` tokens; returns the milliseconds that they took."""
        start = time.perf_counter()
        for _ in range(count):
            self._token = int(np.argmax(self.engine.decode(self._token)))
        return (time.perf_counter() - start) * 1e3


def score(
    engine: Engine,
    passages: Iterable[Mapping[str, Any]],
    density: float | None,
    reference: str,
    save: bool,
) -> dict[str, float]:
    """Quality of an engine's own decode, teacher-forced over the passages' continuations.

    The first token of a continuation is left out: prefill, which is dense, predicts it.

    Args:
        engine: What is scored.
        passages: ``tokens`` and ``mask`` of each prompt, and the ``continuation``'s tokens.
        density: Share of FFN neurons; None for an engine without.
        reference: File of the reference's log-probabilities, .npy, float32 [N,V].
        save: Write that file, making this engine the reference, instead of reading it.

    Returns:
        ``kl``: mean KL(reference || engine) in nats; ``ppl``: perplexity; ``tokens``: N.

    Raises:
        ValueError: the reference has another vocabulary or other passages.
    """
    passages = list(passages)
    shape = (sum(len(p["continuation"]) - 1 for p in passages), engine.info.vocab_size)
    table = np.lib.format.open_memmap(
        reference, "w+" if save else "r", np.float32, shape if save else None
    )
    if table.shape != shape:
        raise ValueError(
            f"the reference has {table.shape[0]} tokens of a vocabulary of {table.shape[1]}, "
            f"expected {shape[0]} of {shape[1]}; compare builds of one model"
        )
    nll, kl, row = 0.0, 0.0, 0
    for passage in passages:
        engine.prefill(passage["tokens"], passage["mask"])
        if density is not None:
            engine.select(density)
        words = passage["continuation"]
        for token, following in itertools.pairwise(words):
            scores = _log_softmax(engine.decode(token))
            if save:
                table[row] = scores
            expected = table[row].astype(np.float64)
            # No dot product: NumPy's threads would contend with a runtime's that still spin.
            kl += float(np.sum(np.exp(expected) * (expected - scores)))
            nll -= float(scores[following])
            row += 1
    return {"kl": kl / row, "ppl": float(np.exp(nll / row)), "tokens": row}


def _log_softmax(logits: FloatArray) -> FloatArray:
    """Rounded to float32 like the reference, from which an engine's own then differ by nothing."""
    shifted = logits.astype(np.float64) - float(np.max(logits))
    normalised: FloatArray = (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)
    return normalised
