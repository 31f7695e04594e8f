"""Log-likelihoods and answers of an artifact, by its own engine and driver.

Neither torch nor transformers is imported. Legend: V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise

from glass_export.evaluate.artifact import log_softmax
from glass_export.evaluate.methods import Chooser, Method
from glass_export.evaluate.scorer import (
    Likelihood,
    Tokens,
    greedy_text,
    text_number,
    unknown_answer,
)
from glass_export.evaluate.texts import EvalText
from glass_export.runtime import Session
from glass_export.runtime.base import FloatArray
from glass_export.runtime.driver import PrefillOutput


class ArtifactScorer:
    """A :class:`.scorer.Scorer` of an opened artifact.

    Args:
        session: The artifact.
        methods: Ways to choose neurons, without refresh and dense start.
        chooser: Of neurons that no rule chooses.
        ends: Tokens that end a text.
    """

    def __init__(
        self, session: Session, methods: tuple[Method, ...], chooser: Chooser, ends: Iterable[int]
    ) -> None:
        self.methods, self.max_length = methods, session.backend.max_length
        self._session, self._chooser, self._ends = session, chooser, frozenset(ends)

    def likelihoods(
        self, context: EvalText, continuations: Sequence[Tokens]
    ) -> list[list[Likelihood]]:
        """See :class:`.scorer.Scorer`; methods that score the same tokens share a prefill."""
        groups: dict[tuple[float, ...], list[int]] = defaultdict(list)
        for index, method in enumerate(self.methods):
            groups[_weights(context, method)].append(index)
        found: dict[tuple[int, int], Likelihood] = {}
        for weights, members in groups.items():
            prompted = self._session.prefill(context.prompt, weights)
            first = log_softmax(prompted.logits)
            for index in members:
                self._choose(self.methods[index], prompted, context)
                for row, continuation in enumerate(continuations):
                    found[row, index] = Likelihood.of(self._rows(first, continuation))
                    self._session.rewind(len(context.prompt))
        return [[found[c, m] for m in range(len(self.methods))] for c in range(len(continuations))]

    def answer(self, context: EvalText, method: int, limit: int, stop: Sequence[str]) -> str:
        """See :class:`.scorer.Scorer`."""
        chosen = self.methods[method]
        prompted = self._session.prefill(context.prompt, _weights(context, chosen))
        logits = prompted.logits.copy()
        self._choose(chosen, prompted, context)
        text = greedy_text(
            self._session.text,
            logits,
            self._session.decode,
            ends=self._ends,
            limit=limit,
            stop=stop,
        )
        self._session.rewind(len(context.prompt))  # its keys and values are sparse
        return text

    def _choose(self, method: Method, prompted: PrefillOutput, context: EvalText) -> None:
        """Be ready to decode after the context."""
        if method.selection.density == 1.0:
            self._session.set_neurons(None)
        elif method.choice == "rule":
            self._session.select(**asdict(method.selection))
        else:
            number = text_number(context)
            neurons = self._chooser.neurons(method, prompted.statistics, unknown_answer, number)
            self._session.set_neurons(neurons)

    def _rows(self, first: FloatArray, continuation: Tokens) -> Iterator[tuple[FloatArray, int]]:
        """Log-probabilities [V] at each token of the continuation, and that token."""
        yield first, continuation[0]
        for fed, token in pairwise(continuation):
            yield log_softmax(self._session.decode(fed)), token


def _weights(context: EvalText, method: Method) -> tuple[float, ...]:
    return context.scored(method.selection.local_tokens, method.prompt_tokens)
