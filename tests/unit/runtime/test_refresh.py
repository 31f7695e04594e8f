"""Mask refresh and dense start, against a loop over the engine's calls that is written out here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_export.errors import GenerationError
from glass_export.fusion import select_neurons
from glass_export.runtime import Generation, SamplingParams, Session
from glass_export.runtime.base import FloatArray, IndexArray, LocalStatistics
from glass_export.runtime.refresh import AUTO_INTERVAL, AUTO_TURNOVER, UntilSettled
from glass_export.runtime.sampler import Sampler
from glass_export.spec import layer_budgets

MakeSession = Callable[..., Session]
PROMPT = list(range(40, 61))
MASK = [0.0] * 5 + [1.0] * 12 + [0.0] * 4
ANSWER = [70, 75, 80, 85, 90, 95, 100, 105, 110, 115, 120, 125]
TEXT = "Hello world, how are you"
WARM = SamplingParams(temperature=2.0, top_k=40, repetition_penalty=1.3, seed=5)
SETTINGS = [(1, 0), (3, 0), (8, 0), (10, 0), (0, 4), (3, 5), (4, 1)]
"""Tokens between two refreshes, and tokens of a dense start."""


def has_settled(old: IndexArray, new: IndexArray) -> bool:
    """Whether "auto" ends with the choice ``new`` after ``old``."""
    pairs = [({*now} - {-1}, {*before}) for before, now in zip(old, new, strict=True)]
    added = sum(len(now - before) for now, before in pairs)
    return added / sum(len(now) for now, _ in pairs) < AUTO_TURNOVER / 10_000


class ByHand:
    """The method with nothing but engine calls: no cache is kept, no policy is asked."""

    def __init__(self, session: Session, ids: Sequence[int], mask: Sequence[float]) -> None:
        self.backend, self.priors = session.backend, session._priors
        self.tokens, self.length = list(ids), 0
        self.sums = LocalStatistics.zeros(self.backend.dims.layers, self.backend.dims.d_ff)
        self.logits = self.run(ids, mask)
        self.neurons: IndexArray | None = None

    def run(self, tokens: Sequence[int], mask: Sequence[float]) -> FloatArray:
        """Prefill after position ``length``, a chunk at a time, and add up the statistics."""
        for start in range(0, len(tokens), self.backend.prefill_chunk):
            part = np.array(tokens[start : start + self.backend.prefill_chunk])
            weights = np.array(mask[start : start + part.size], np.float32)
            last = np.array([part.size - 1])
            result = self.backend.prefill(part, self.length, weights, last)
            if weights.any():
                self.sums.add(result.statistics)
            self.length += part.size
        return result.logits[0]

    def choose(self, selection: Any) -> int:
        """Choose neurons; tokens until they are chosen again."""
        sizes = self.backend.dims.d_ff, self.backend.dims.layers
        budgets = layer_budgets(selection.density, *sizes, selection.dense_layers)
        before = self.neurons
        self.neurons = select_neurons(self.sums, self.priors, selection, budgets)
        self.backend.select(self.neurons)
        if selection.refresh != "auto":
            return int(selection.refresh)
        ends = before is not None and has_settled(before, self.neurons)
        return 0 if ends else AUTO_INTERVAL

    def answer(self, sampler: Sampler, count: int, selection: Any) -> list[int]:
        """``count`` tokens, chosen by ``sampler``."""
        interval, since = self.choose(selection), 0
        if selection.dense_start:
            interval, self.neurons = selection.dense_start, None
            self.backend.select(None)
        prompt = self.length
        while True:
            self.tokens.append(sampler.sample(self.logits, self.tokens))
            if len(self.tokens) == prompt + count:
                return self.tokens[prompt:]
            if since == interval and interval > 0:
                self.length -= since
                again = self.tokens[self.length :]
                self.logits = self.run(again, [1.0] * len(again))
                interval, since = self.choose(selection), 0
            else:
                self.logits = self.backend.decode(self.tokens[-1], self.length)
                self.length, since = self.length + 1, since + 1


def by_hand(session: Session, text: str, count: int, params: SamplingParams, **wanted: Any) -> Any:
    """Tokens that :meth:`Session.generate` has to give."""
    ids, mask = session.text.encode(text, "user")
    hand = ByHand(session, list(ids), list(mask))
    return hand.answer(Sampler(params), count, replace(session.defaults, **wanted))


def statistics(session: Session) -> LocalStatistics:
    """What the next refresh adds to."""
    assert session._refresh is not None
    return session._refresh.statistics


def answer(session: Session, tokens: Sequence[int], **selection: Any) -> FloatArray:
    """Decode ``tokens`` after PROMPT at density 0.5; logits after the last."""
    session.prefill(PROMPT, MASK)
    session.select(density=0.5, **selection)
    for token in tokens:
        logits = session.decode(token)
    return logits.copy()


def same_answer(left: Generation, right: Generation) -> bool:
    return (left.token_ids, left.text) == (right.token_ids, right.text)


@pytest.mark.parametrize(("refresh", "dense_start"), SETTINGS)
@pytest.mark.parametrize("params", [replace(WARM, seed=seed) for seed in (5, 6)], ids=["5", "6"])
def test_an_answer_is_that_of_the_written_out_loop(
    make_session: MakeSession, refresh: int, dense_start: int, params: SamplingParams
) -> None:
    """Intervals below, at and above the prefill call's 8 tokens."""
    wanted: dict[str, Any] = {"density": 0.25, "refresh": refresh, "dense_start": dense_start}
    sent: list[str] = []
    session = make_session()
    got = session.generate(TEXT, max_new_tokens=30, sampling=params, stream=sent.append, **wanted)
    expected = by_hand(make_session(), TEXT, 30, params, **wanted)
    assert list(got.token_ids) == expected
    assert "".join(sent) == got.text == session.text.decode(expected)
    plain = make_session().generate(TEXT, max_new_tokens=30, sampling=params, density=0.25)
    assert got.token_ids != plain.token_ids


def test_refreshes_keep_the_numbers_of_every_layer(make_session: MakeSession) -> None:
    wanted: dict[str, Any] = {"density": 0.75, "dense_layers": (1,), "refresh": 4}
    session = make_session()
    got = session.generate(TEXT, max_new_tokens=20, sampling=WARM, **wanted)
    assert list(got.token_ids) == by_hand(make_session(), TEXT, 20, WARM, **wanted)
    assert got.stats.refreshes > 0 and session._refresh is not None
    kept = (session._refresh.neurons >= 0).sum(axis=1)
    assert kept.tolist() == list(layer_budgets(0.75, 24, 2, (1,))) == [12, 24]


@pytest.mark.parametrize("dense_start", [0, 5])
@pytest.mark.parametrize("seed", range(4))
def test_auto_is_that_of_the_written_out_loop(
    make_session: MakeSession, seed: int, dense_start: int
) -> None:
    params = replace(WARM, seed=seed)
    wanted: dict[str, Any] = {"density": 0.5, "refresh": "auto", "dense_start": dense_start}
    session = make_session(max_length=400)
    got = session.generate(TEXT, max_new_tokens=300, sampling=params, **wanted)
    hand = by_hand(make_session(max_length=400), TEXT, 300, params, **wanted)
    assert list(got.token_ids) == hand
    assert 1 <= got.stats.refreshes < 299 // (AUTO_INTERVAL + 1)


def test_auto_refreshes_until_few_neurons_are_new() -> None:
    rows = np.tile(np.arange(200, dtype=np.int32), (2, 1))
    rows[1, 100:] = -1

    def interval(new: int) -> int:
        now = rows.copy()
        now[1, 100 - new : 100] = np.arange(500, 500 + new)
        return UntilSettled(tokens=7, turnover=500).interval(rows, now)

    assert [interval(new) for new in (0, 14, 15, 100)] == [0, 0, 7, 7]


def test_auto_ends_with_the_answer(make_session: MakeSession) -> None:
    """The next answer starts with refreshes anew."""
    session = make_session(max_length=400)
    options: dict[str, Any] = {"max_new_tokens": 100, "sampling": WARM, "density": 0.5}
    first = session.generate(TEXT, refresh="auto", **options)
    again = session.generate(TEXT, refresh="auto", reset=True, **options)
    assert same_answer(first, again) and first.stats.refreshes == again.stats.refreshes > 0


@pytest.mark.parametrize("target", ["onnx", "executorch"])
@pytest.mark.parametrize(("refresh", "dense_start"), [(3, 0), (40, 0), (8, 5), ("auto", 5)])
def test_engines_answer_as_the_written_out_loop(
    exported: Callable[..., Path], target: str, refresh: int | str, dense_start: int
) -> None:
    """On tiny models, whose prefill takes 32 tokens a call."""
    params = SamplingParams(temperature=1.0, seed=2)
    wanted = {"density": 0.25, "refresh": refresh, "dense_start": dense_start}
    with Session.open(exported("llama", target)) as session:
        got = session.generate("the fox", max_new_tokens=60, sampling=params, **wanted)
        expected = by_hand(session, "the fox", 60, params, **wanted)
    stop = expected.index(1) if 1 in expected else None
    assert list(got.token_ids) == expected[:stop]
    assert got.stats.refreshes > 0


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_engines_hold_a_dense_cache_after_a_refresh(
    exported: Callable[..., Path], target: str
) -> None:
    with Session.open(exported("llama", target)) as session:
        refreshed = answer(session, ANSWER[:7], refresh=6)
        session.set_neurons(None)
        after = session.decode(130).copy()
        session.reset()
        dense = session.prefill([*PROMPT, *ANSWER[:7]]).logits
        np.testing.assert_allclose(refreshed, dense, atol=1e-4)
        np.testing.assert_allclose(after, session.decode(130), atol=1e-4)


@pytest.mark.parametrize("refresh", [1, 3, 5, 11])
def test_a_refresh_makes_the_cache_dense(make_session: MakeSession, refresh: int) -> None:
    """12 tokens end with a refresh in each case; 11 take two prefill calls."""
    session = make_session()
    refreshed = answer(session, ANSWER, refresh=refresh)
    session.set_neurons(None)
    after = session.decode(130)
    fresh = make_session()
    dense = fresh.prefill([*PROMPT, *ANSWER]).logits
    np.testing.assert_allclose(refreshed, dense, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after, fresh.decode(130), rtol=1e-4, atol=1e-5)


def test_between_refreshes_the_cache_is_sparse(make_session: MakeSession) -> None:
    session = make_session()
    sparse = answer(session, ANSWER, refresh=4)
    dense = make_session().prefill([*PROMPT, *ANSWER]).logits
    assert np.abs(sparse - dense).max() > 1e-3


@pytest.mark.parametrize(
    ("refresh", "dense_start", "covered"),
    [(3, 0, 12), (4, 0, 10), (12, 0, 0), (0, 4, 5), (2, 4, 11)],
)
def test_statistics_are_those_of_prompt_and_refreshed_tokens(
    make_session: MakeSession, refresh: int, dense_start: int, covered: int
) -> None:
    session = make_session()
    answer(session, ANSWER, refresh=refresh, dense_start=dense_start)
    done = [*PROMPT, *ANSWER[:covered]]
    expected = make_session().prefill(done, [*MASK, *[1.0] * covered]).statistics
    got = statistics(session)
    np.testing.assert_allclose(got.abs_sum, expected.abs_sum, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.sq_sum, expected.sq_sum, rtol=1e-4, atol=1e-5)
    assert got.tokens == expected.tokens == 12 + covered


def test_a_dense_start_is_dense(make_session: MakeSession) -> None:
    session, dense = make_session(), make_session()
    session.prefill(PROMPT, MASK)
    dense.prefill(PROMPT, MASK)
    assert session.select(density=0.5, dense_start=3).shape == (2, 24)
    for token in ANSWER[:3]:
        np.testing.assert_array_equal(session.decode(token), dense.decode(token))
    session.decode(ANSWER[3])
    dense.decode(ANSWER[3])
    assert np.abs(session.decode(ANSWER[4]) - dense.decode(ANSWER[4])).max() > 1e-3


def test_density_one_is_not_refreshed(make_session: MakeSession) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "density": 1.0, "sampling": WARM}
    session, plain = make_session(), make_session()
    got = session.generate(TEXT, refresh=2, dense_start=3, **options)
    assert same_answer(got, plain.generate(TEXT, **options))
    assert got.stats.refreshes == 0
    assert session.backend.prefills == plain.backend.prefills  # type: ignore[attr-defined]  # the toy's log
    np.testing.assert_array_equal(session.decode(5), plain.decode(5))


def test_a_refresh_is_one_prefill_in_place_of_a_decode(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    calls: list[tuple[int, int]] = session.backend.prefills  # type: ignore[attr-defined]  # the toy's log
    calls.clear()
    answer(session, ANSWER, refresh=4)
    assert calls[-2:] == [(21, 5), (26, 5)]
    calls.clear()
    answer(session, ANSWER, refresh=9)
    assert calls[-2:] == [(21, 8), (29, 2)]  # 10 tokens, of which a call takes 8


@pytest.mark.parametrize(("tokens", "refreshes"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_an_answer_that_ends_at_a_boundary_is_not_refreshed_there(
    make_session: MakeSession, tokens: int, refreshes: int
) -> None:
    result = make_session().generate(TEXT, max_new_tokens=tokens, density=0.5, refresh=3)
    assert len(result.token_ids) == tokens and result.stats.refreshes == refreshes


def test_end_of_text_at_a_boundary(make_session: MakeSession) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "density": 0.5, "sampling": WARM}
    free = make_session().generate(TEXT, refresh=3, **options)
    fourth = free.token_ids[3]
    assert fourth not in free.token_ids[:3]
    ended = make_session(eos=(fourth,)).generate(TEXT, refresh=3, **options)
    assert ended.finish_reason == "stop" and ended.token_ids == free.token_ids[:3]
    assert ended.stats.refreshes == 0


@pytest.mark.parametrize("length", range(16, 22))
def test_a_refresh_needs_no_more_context_than_its_tokens(
    make_session: MakeSession, length: int
) -> None:
    """The context ends before, at and after a refresh."""
    wanted = {"density": 0.5, "refresh": 3}
    session = make_session(max_length=length)
    got = session.generate(TEXT, max_new_tokens=100, sampling=WARM, **wanted)
    assert got.finish_reason == "context" and len(session.tokens) == length
    count = len(got.token_ids)
    hand = make_session(max_length=length)
    assert list(got.token_ids) == by_hand(hand, TEXT, count, WARM, **wanted)
    with pytest.raises(GenerationError, match=f"context of {length} tokens is full"):
        session.decode(5)
    assert len(session.tokens) == length


def test_the_next_turn_reuses_as_without_refreshes(make_session: MakeSession) -> None:
    turn, mask = [*PROMPT, *ANSWER, 200, 201], [*MASK, *[0.0] * len(ANSWER), 1.0, 1.0]
    outputs = []
    for refresh in (0, 3, 5):
        session = make_session()
        answer(session, ANSWER, refresh=refresh)
        outputs.append(session.prefill(turn, mask))
        assert session.tokens == tuple(turn)
    plain, refreshed, _ = outputs
    assert [output.reused_tokens for output in outputs] == [33, 33, 33]
    assert refreshed.statistics.tokens == plain.statistics.tokens == 14
    dense = make_session().prefill(turn, mask)
    np.testing.assert_allclose(refreshed.logits, dense.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        refreshed.statistics.sq_sum, dense.statistics.sq_sum, rtol=1e-4, atol=1e-5
    )


def test_a_repaired_answer_that_is_to_be_scored_is_run_again(make_session: MakeSession) -> None:
    session = make_session()
    answer(session, ANSWER, refresh=3)
    turn, mask = [*PROMPT, *ANSWER, 200], [*MASK, *[1.0] * 13]
    again = session.prefill(turn, mask)
    assert again.reused_tokens == 21
    fresh = make_session().prefill(turn, mask).statistics
    assert again.statistics.tokens == fresh.tokens
    np.testing.assert_allclose(again.statistics.sq_sum, fresh.sq_sum, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", ["set_neurons", "prefill", "reset"])
def test_what_ends_the_refreshes(make_session: MakeSession, act: str) -> None:
    session = make_session()
    answer(session, ANSWER[:3], refresh=3)
    match act:
        case "set_neurons":
            session.set_neurons([[0, 1], [2, 3]])
        case "prefill":
            session.prefill([*PROMPT, 200])
        case "reset":
            session.reset()
    calls: list[tuple[int, int]] = session.backend.prefills  # type: ignore[attr-defined]  # the toy's log
    calls.clear()
    for token in ANSWER:
        session.decode(token)
    assert calls == []


@pytest.mark.parametrize(("failing", "kept"), [(1, 21), (2, 29)])
def test_a_refresh_that_fails_forgets_what_it_was_to_repair(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, failing: int, kept: int
) -> None:
    """10 tokens in two prefill calls, of which one fails."""
    session = make_session()
    answer(session, ANSWER[:9], refresh=9)
    run, calls = session.backend.prefill, iter(range(1, 3))

    def fail(*arguments: Any) -> Any:
        if next(calls) == failing:
            raise GenerationError("engine")
        return run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(session.backend, "prefill", fail)
        with pytest.raises(GenerationError, match="engine"):
            session.decode(ANSWER[9])
    assert session.tokens == tuple([*PROMPT, *ANSWER][:kept])
    turn, mask = [*PROMPT, *ANSWER, 200], [*MASK, *[0.0] * 12, 1.0]
    again, fresh = session.prefill(turn, mask), make_session().prefill(turn, mask)
    assert again.reused_tokens == kept
    np.testing.assert_allclose(again.logits, fresh.logits, rtol=1e-4, atol=1e-5)
    assert again.statistics.tokens == fresh.statistics.tokens


def test_nan_in_a_refresh_is_an_error_after_which_the_session_works(
    make_session: MakeSession,
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "density": 0.5, "sampling": WARM}
    session = make_session()
    expected = session.generate(TEXT, refresh=4, **options)
    weights: Any = session.backend._ffn  # type: ignore[attr-defined]  # the toy's weights
    saved, sent = weights.copy(), []

    def damage(piece: str) -> None:
        """Spoil the neurons that are not chosen, so that only a dense run meets them."""
        if not sent:
            for layer, chosen in enumerate(session.backend._neurons):  # type: ignore[attr-defined]
                weights[layer][:, np.setdiff1d(np.arange(24), chosen)] = np.nan
        sent.append(piece)

    with pytest.raises(GenerationError, match="logits"):
        session.generate(TEXT, refresh=4, reset=True, stream=damage, **options)
    weights[:] = saved
    assert sent and session.tokens == ()
    assert session.backend.prefills[-1][1] == 5  # type: ignore[attr-defined]  # the toy's log
    assert same_answer(session.generate(TEXT, refresh=4, **options), expected)


def test_what_cannot_be_chosen_fails_before_a_dense_start(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    with pytest.raises(GenerationError, match="not in the artifact"):
        session.select(prior="F", dense_start=8)


@pytest.mark.parametrize("name", ["refresh", "dense_start"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "8", "Auto"])
def test_unusable_values_are_errors(make_session: MakeSession, name: str, value: Any) -> None:
    with pytest.raises(GenerationError, match=f"{name}: got .*whole number of at least 0"):
        make_session().generate(TEXT, **{name: value})


def test_off_is_no_refresh(make_session: MakeSession) -> None:
    session = make_session()
    session.defaults = replace(session.defaults, refresh=3)
    assert session.generate(TEXT, max_new_tokens=9, refresh="off").stats.refreshes == 0


def test_stats_count_refreshes_and_their_time(make_session: MakeSession) -> None:
    session = make_session()
    stats = session.generate(TEXT, max_new_tokens=21, density=0.5, refresh=4, dense_start=2).stats
    assert stats.refreshes == 4  # after 2, then after 4, 4 and 4; each computes a token itself
    elapsed = (stats.new_tokens - 1) / stats.decode_tps * 1e3
    assert 0 < stats.refresh_ms < elapsed
    assert stats.ttft_ms >= stats.select_ms >= stats.fusion_ms > 0
    plain = session.generate(TEXT, max_new_tokens=9, density=0.5).stats
    assert (plain.refreshes, plain.refresh_ms) == (0, 0.0)


def test_defaults_come_from_the_artifact(make_session: MakeSession) -> None:
    session = make_session()
    session.defaults = replace(session.defaults, refresh=3)
    assert session.generate(TEXT, max_new_tokens=9).stats.refreshes == 2
    assert session.generate(TEXT, max_new_tokens=9, refresh=0, reset=True).stats.refreshes == 0
