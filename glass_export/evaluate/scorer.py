"""Log-likelihoods of continuations, and greedy answers, with neurons chosen from the context.

As a driver computes them: the context is prefilled densely, which also gives the probabilities of a
continuation's first token; further tokens are decoded with the chosen neurons. Neither torch nor
transformers is needed. Legend: C continuations of one context, M methods, V vocabulary.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from glass_export.errors import EvaluationError
from glass_export.evaluate.methods import Method
from glass_export.evaluate.texts import EvalText
from glass_export.log import progress
from glass_export.runtime.base import FloatArray, LocalStatistics
from glass_export.runtime.detokenizer import TextStream
from glass_export.runtime.text import TextCodec

Tokens = tuple[int, ...]


class Likelihood(NamedTuple):
    """Of a continuation: log-probability in nats, and whether greedy decoding would write it."""

    log_p: float
    greedy: bool

    @classmethod
    def of(cls, rows: Iterable[tuple[FloatArray, int]]) -> Likelihood:
        """From the log-probabilities [V] at each token of the continuation, and that token."""
        log_p, greedy = 0.0, True
        for row, token in rows:
            log_p += float(row[token])
            greedy = greedy and int(row.argmax()) == token
        return cls(log_p, greedy)


class Question(NamedTuple):
    """What is to be answered: in how many tokens at most, and what strings end the answer."""

    context: str
    limit: int
    stop: tuple[str, ...]


class Scorer(Protocol):
    """What runs a model or an artifact.

    ``methods``: ways to choose neurons [M]; ``max_length``: most tokens of context and answer.
    """

    methods: tuple[Method, ...]
    max_length: int

    def likelihoods(
        self, context: EvalText, continuations: Sequence[Tokens]
    ) -> list[list[Likelihood]]:
        """Of every continuation by every method [C][M]; the context is prefilled once."""
        ...

    def answer(self, context: EvalText, method: int, limit: int, stop: Sequence[str]) -> str:
        """Greedy text of ``limit`` tokens at most, up to a stop string or the end of text."""
        ...


def text_number(context: EvalText) -> int:
    """A number of the context, the same in every run; each gets its own random neurons."""
    return zlib.crc32(np.array(context.prompt, np.int64).tobytes())


def unknown_answer() -> LocalStatistics:
    """Statistics of the answer, which nothing but an oracle asks for. Raises EvaluationError."""
    raise EvaluationError(
        "methods: 'oracle' knows the answer, and a task has several or none; leave it out"
    )


def greedy_text(
    codec: TextCodec,
    logits: FloatArray,
    decode: Callable[[int], FloatArray],
    *,
    ends: Iterable[int],
    limit: int,
    stop: Sequence[str],
) -> str:
    """Text of the most probable tokens.

    Args:
        codec: Turns tokens into text.
        logits: Of the first token [V].
        decode: Appends a token; gives the logits [V] of the next one.
        ends: Tokens that end a text.
        limit: Most tokens.
        stop: Strings that end the text; they are not part of it.
    """
    output, ends = TextStream(codec.detokenizer(), stop), frozenset(ends)
    for left in reversed(range(limit)):
        token = int(logits.argmax())
        if token in ends:
            break
        if output.write(token):
            return output.text
        if left:
            logits = decode(token)
    output.close()
    return output.text


@dataclass(slots=True)
class Encoder:
    """Turns the plain text of tasks into tokens, without a chat template.

    What does not fit is cut off at the start of the context, as lm-eval's own models do it.

    Attributes:
        codec: The tokenizer.
        prefix: Token that stands for a context without any.
        max_length: Most tokens of context and answer.
        cut: Contexts that were cut off, as they were used.
    """

    codec: TextCodec
    prefix: int
    max_length: int
    cut: set[Tokens] = field(default_factory=set)

    def pair(self, context: str, continuation: str) -> tuple[EvalText, Tokens]:
        """A context and its continuation, tokenized together; the border is where the context's own
        tokens end, and spaces at the end of the context belong to the continuation.

        Raises:
            EvaluationError: the continuation has no tokens, or does not fit.
        """
        before, mask = self.codec.encode_text(context.rstrip())
        together, _ = self.codec.encode_text(context + continuation)
        tokens = tuple(together[len(before) :])
        if not tokens:
            raise EvaluationError(
                f"continuation {continuation!r}: it has no tokens after {context[-40:]!r}, "
                "expected at least one; check the task's answers"
            )
        return self._fitting(before, mask.tolist(), len(tokens)), tokens

    def prompt(self, context: str, answer: int) -> EvalText:
        """A context to be continued by ``answer`` tokens.

        Raises:
            EvaluationError: they do not fit.
        """
        tokens, mask = self.codec.encode_text(context)
        return self._fitting(tokens, mask.tolist(), answer)

    def _fitting(self, tokens: list[int], weights: list[float], answer: int) -> EvalText:
        room = self.max_length - (answer - 1)  # the last token of an answer is never fed
        if room < 1:
            raise EvaluationError(
                f"answer: got {answer} tokens, and the context holds {self.max_length} with the "
                "prompt; choose a task of shorter answers, or a model or export.max_length of a "
                "longer context"
            )
        kept = tuple(tokens[-room:]) or (self.prefix,)
        if len(tokens) > room:
            self.cut.add(kept)
        return EvalText(kept, tuple(weights[-room:]) or (1.0,), (), "")


class SharedScores:
    """Scores every request by all methods when the first of them asks for it.

    Attributes:
        scored: Tokens of continuations scored so far.
        decoded: How many of them were predicted by a decode step, that is with chosen neurons.
    """

    def __init__(self, scorer: Scorer, encoder: Encoder) -> None:
        self._scorer, self._encoder = scorer, encoder
        self._known: dict[tuple[str, str], list[Likelihood]] = {}
        self.scored = self.decoded = 0

    def likelihoods(self, pairs: Sequence[tuple[str, str]], method: int) -> list[Likelihood]:
        """Of pairs of context and continuation, by one method.

        Raises:
            EvaluationError: see :meth:`Encoder.pair`.
        """
        unknown = dict.fromkeys(pair for pair in pairs if pair not in self._known)
        contexts: dict[EvalText, list[tuple[tuple[str, str], Tokens]]] = defaultdict(list)
        for pair in unknown:
            context, tokens = self._encoder.pair(*pair)
            contexts[context].append((pair, tokens))
        with progress("scoring", len(contexts), "contexts") as task:
            for context, members in contexts.items():
                found = self._scorer.likelihoods(context, [tokens for _, tokens in members])
                for (pair, tokens), row in zip(members, found, strict=True):
                    self._known[pair] = row
                    self.scored += len(tokens)
                    self.decoded += len(tokens) - 1
                task.advance()
        return [self._known[pair][method] for pair in pairs]

    def answers(self, questions: Sequence[Question], method: int) -> list[str]:
        """Greedy answers by one method.

        Raises:
            EvaluationError: see :meth:`Encoder.prompt`.
        """
        texts = []
        with progress("answering", len(questions), "questions") as task:
            for question in questions:
                prompt = self._encoder.prompt(question.context, question.limit)
                texts.append(self._scorer.answer(prompt, method, question.limit, question.stop))
                task.advance()
        return texts
