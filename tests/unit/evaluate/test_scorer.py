"""Likelihoods and greedy answers: of a plain masked forward, of the eager model, of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CONTEXT, VOCABULARY, tiny_model, tiny_tokenizer
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from glass_export.artifact import Artifact
from glass_export.errors import EvaluationError
from glass_export.evaluate.eager import EagerModel, local_statistics
from glass_export.evaluate.methods import Chooser, Method
from glass_export.evaluate.protocol import as_mask
from glass_export.evaluate.scorer import (
    Encoder,
    Likelihood,
    Question,
    SharedScores,
    Tokens,
    text_number,
    unknown_answer,
)
from glass_export.evaluate.scorer_artifact import ArtifactScorer
from glass_export.evaluate.scorer_eager import ROWS, EagerScorer
from glass_export.evaluate.sweep import Sweep
from glass_export.evaluate.texts import EvalText
from glass_export.families import find_ffns
from glass_export.fusion import Priors
from glass_export.load import load_model
from glass_export.nn.hooks import down_hooks
from glass_export.recipe import SelectionRecipe
from glass_export.runtime import Session
from glass_export.runtime.text import TextCodec

EAGER = Sweep(methods=("dense", "griffin", "local", "random")).expand(0.25, None)
ON_ARTIFACTS = Sweep(
    methods=("dense", "griffin", "a-glass", "shrinkage", "random", "auto"), prompt_tokens=(4, 99)
).expand(0.25, SelectionRecipe(fusion="local", local="A", local_tokens="all"))
CONTEXT_TEXT = EvalText(tuple(range(40, 52)), (0.0, *[1.0] * 10, 0.0), (), "")
ANSWERS: list[Tokens] = [(60, 61, 62), (70,), (80, 79, 78, 77, 76, 75), (70, 71), (60, 61, 62, 9)]


def plain_codec(bos: bool = True) -> TextCodec:
    tokenizer = tiny_tokenizer()
    if bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return TextCodec(tokenizer.backend_tokenizer, bos_token="<s>" if bos else None)


@pytest.fixture(params=["llama", "gemma3_text"])
def eager(request: pytest.FixtureRequest) -> EagerModel:
    model = tiny_model(request.param)
    return EagerModel(model, find_ffns(model))


def scorer_of(model: EagerModel, methods: tuple[Method, ...] = EAGER) -> EagerScorer:
    return EagerScorer(model, methods, Chooser(Priors({}), None, 3), plain_codec(), {1})


def masked_forward(model: EagerModel, mask: Tensor, answer: Tokens) -> Likelihood:
    """One pass over context and answer; the mask [L,F] works from the answer's first token on."""
    start = len(CONTEXT_TEXT.prompt)

    def choose(layer: int) -> Callable[..., tuple[Tensor]]:
        def hook(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
            hidden = inputs[0].clone()
            hidden[:, start:] *= mask[layer]
            return (hidden,)

        return hook

    tokens = torch.tensor([[*CONTEXT_TEXT.prompt, *answer]])
    with down_hooks(model.model, model.sites, choose):
        log_p = model.model(tokens).logits[0, start - 1 : -1].log_softmax(-1)
    picked = log_p[torch.arange(len(answer)), torch.tensor(answer)]
    return Likelihood(float(picked.sum()), log_p.argmax(-1).tolist() == list(answer))


def mask_of(model: EagerModel, method: Method) -> Tensor:
    """The neurons that a method chooses after the context [L,F]."""
    known = model.record(CONTEXT_TEXT.prompt).magnitudes
    if method.name == "dense":
        return torch.ones_like(known[:, 0])
    weights = torch.tensor(CONTEXT_TEXT.scored(method.selection.local_tokens))
    chooser, local = Chooser(Priors({}), None, 3), local_statistics(known, weights)
    number = text_number(CONTEXT_TEXT)
    return as_mask(chooser.neurons(method, local, unknown_answer, number), known.shape[2])


def test_likelihoods_are_those_of_a_plain_masked_forward(eager: EagerModel) -> None:
    found = scorer_of(eager).likelihoods(CONTEXT_TEXT, ANSWERS)
    masks = [mask_of(eager, method) for method in EAGER]
    for row, answer in zip(found, ANSWERS, strict=True):
        for got, mask in zip(row, masks, strict=True):
            want = masked_forward(eager, mask, answer)
            assert got.log_p == pytest.approx(want.log_p, abs=1e-4), answer
            assert got.greedy == want.greedy
    sparse, dense = found[2][1], found[2][0]
    assert abs(sparse.log_p - dense.log_p) > 1e-2  # the neurons matter
    assert len({likelihood.log_p for likelihood in found[1]}) == 1  # one token: prefill alone


def test_density_1_is_the_dense_model(eager: EagerModel) -> None:
    methods = Sweep(methods=("dense", "griffin", "global")).expand(1.0, None)
    every = torch.ones((len(eager.sites), 48))
    for row, answer in zip(
        scorer_of(eager, methods).likelihoods(CONTEXT_TEXT, ANSWERS), ANSWERS, strict=True
    ):
        assert len(set(row)) == 1
        assert row[0].log_p == pytest.approx(masked_forward(eager, every, answer).log_p, abs=1e-4)


def test_continuations_of_one_context_do_not_see_each_other(eager: EagerModel) -> None:
    scorer = scorer_of(eager)
    assert len(ANSWERS) * len(EAGER) > ROWS  # more than one batch
    together = scorer.likelihoods(CONTEXT_TEXT, ANSWERS)
    for row, answer in zip(together, ANSWERS, strict=True):
        (alone,) = scorer.likelihoods(CONTEXT_TEXT, [answer])
        assert [one.log_p for one in row] == pytest.approx([one.log_p for one in alone], abs=1e-5)


def word_codec() -> TextCodec:
    """Token 7 is written w7."""
    words = {f"w{token}": token for token in range(VOCABULARY)}
    return TextCodec(Tokenizer(models.WordLevel(words, unk_token="w0")))


def test_greedy_answers_are_greedy_by_their_likelihood() -> None:
    model = tiny_model("llama")
    eager = EagerModel(model, find_ffns(model))
    chooser, written = Chooser(Priors({}), None, 3), []
    for index, method in enumerate(EAGER):
        one = scorer_of(eager, (method,))
        tokens: Tokens = ()
        for _ in range(6):
            options = [(*tokens, token) for token in range(2, VOCABULARY)]
            rows = one.likelihoods(CONTEXT_TEXT, options)
            tokens = options[int(np.argmax([row[0].log_p for row in rows]))]
        written.append(" ".join(f"w{token}" for token in tokens))
        scorer = EagerScorer(eager, EAGER, chooser, word_codec(), {1})
        assert scorer.answer(CONTEXT_TEXT, index, 6, ()) == written[-1]
        words = written[-1].split()
        assert scorer.answer(CONTEXT_TEXT, index, 3, ()).split() == words[:3]
        ended = EagerScorer(eager, EAGER, chooser, word_codec(), {1, tokens[0]})
        assert ended.answer(CONTEXT_TEXT, index, 6, ()) == ""
        before = written[-1].partition(words[3])[0]
        assert scorer.answer(CONTEXT_TEXT, index, 6, ("never", words[3])) == before
    assert len(set(written)) > 1  # the neurons matter


def test_artifact_and_eager_model_agree(
    exported: Callable[..., Path], recipe_of: Any, checkpoint: Any
) -> None:
    loaded = load_model(recipe_of(checkpoint("llama")).model)
    priors = Priors(Artifact.open(exported("llama")).prior())
    model = EagerModel(loaded.model, find_ffns(loaded.model))
    with Session.open(exported("llama"), threads=1) as session:
        eager = EagerScorer(model, ON_ARTIFACTS, Chooser(priors, None, 3), session.text, {1})
        scorer = ArtifactScorer(session, ON_ARTIFACTS, Chooser(Priors({}), None, 3), {1})
        assert (scorer.max_length, eager.max_length) == (CONTEXT, 256)
        for start in (40, 90):  # the second one finds the first in the cache
            context = EvalText(tuple(range(start, start + 12)), CONTEXT_TEXT.weights, (), "")
            for got, want in zip(
                scorer.likelihoods(context, ANSWERS),
                eager.likelihoods(context, ANSWERS),
                strict=True,
            ):
                np.testing.assert_allclose(
                    [one.log_p for one in got], [one.log_p for one in want], atol=2e-3
                )
                assert [one.greedy for one in got] == [one.greedy for one in want]
            assert session.tokens == context.prompt
            for method in range(len(ON_ARTIFACTS)):
                ours = scorer.answer(context, method, 8, ())
                assert ours == eager.answer(context, method, 8, ())


def test_oracle_has_nothing_to_know(eager: EagerModel) -> None:
    methods = Sweep(methods=("oracle",)).expand(0.5, None)
    with pytest.raises(EvaluationError, match="'oracle' knows the answer"):
        scorer_of(eager, methods).likelihoods(CONTEXT_TEXT, ANSWERS)


def test_context_and_continuation_are_tokenized_together() -> None:
    encoder = Encoder(plain_codec(), 1, 64)
    whole = plain_codec().encode_text("the quick fox")[0]
    spaced, plain = encoder.pair("the quick ", "fox"), encoder.pair("the quick", " fox")
    assert spaced == plain
    context, tokens = plain
    assert [*context.prompt, *tokens] == whole and len(tokens) < len(whole) - 1
    assert context.weights == (0.0, *[1.0] * (len(context.prompt) - 1))
    assert encoder.pair("", "fox")[0] == EvalText((0,), (1.0,), (), "")


@pytest.mark.parametrize("prefix", [0, 1])
def test_an_empty_context_has_a_prefix(prefix: int) -> None:
    encoder = Encoder(plain_codec(bos=False), prefix, 64)
    context, tokens = encoder.pair("", "the fox")
    assert context == EvalText((prefix,), (1.0,), (), "")
    assert list(tokens) == plain_codec(bos=False).encode_text("the fox")[0]
    assert encoder.prompt("", 5).prompt == (prefix,)


def test_what_does_not_fit_is_cut_off_at_the_start() -> None:
    encoder = Encoder(plain_codec(), 0, 8)
    context, tokens = encoder.pair("over the lazy dog jumps over the fox", " over")
    assert len(context.prompt) + len(tokens) - 1 == 8 and encoder.cut == {context.prompt}
    assert len(context.weights) == len(context.prompt) and 0 not in context.prompt
    assert len(encoder.prompt("over the lazy dog jumps over the fox", 3).prompt) == 6
    with pytest.raises(EvaluationError, match="answer: got 9 tokens, and the context holds 8"):
        encoder.prompt("the", 9)
    with pytest.raises(EvaluationError, match="it has no tokens after 'the dog'"):
        encoder.pair("the dog", "")


class _Counting:
    """A scorer that counts, and whose likelihoods name the method."""

    methods, max_length = EAGER[:2], 64

    def __init__(self) -> None:
        self.calls: list[tuple[EvalText, int]] = []

    def likelihoods(self, context: EvalText, answers: Sequence[Tokens]) -> list[list[Likelihood]]:
        self.calls.append((context, len(answers)))
        return [
            [Likelihood(-len(tokens) - 10.0 * m, m == 0) for m in range(2)] for tokens in answers
        ]

    def answer(self, context: EvalText, method: int, limit: int, stop: Sequence[str]) -> str:
        return f"{len(context.prompt)} {method} {limit} {stop}"


def test_a_context_is_prefilled_once_for_all_methods() -> None:
    counting = _Counting()
    shared = SharedScores(counting, Encoder(plain_codec(), 0, 64))
    pairs = [("the", " fox"), ("a dog", " x"), ("the", " lazy dog"), ("the", " fox")]
    first, second = (shared.likelihoods(pairs, method) for method in range(2))
    assert [(len(c.prompt), n) for c, n in counting.calls] == [
        (len(plain_codec().encode_text(text)[0]), n) for text, n in (("the", 2), ("a dog", 1))
    ]
    sizes = [-int(one.log_p) for one in first]
    assert sizes[0] == sizes[3] and [one.log_p for one in second] == [-n - 10.0 for n in sizes]
    assert shared.scored == sum(sizes[:3]) and shared.decoded == shared.scored - 3
    assert shared.answers([Question("the", 5, ("x",))], 1)[0].endswith(" 1 5 ('x',)")
