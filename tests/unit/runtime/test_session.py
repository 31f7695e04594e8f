"""The driver over a small real engine: reuse, statistics, selection, and the end of an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glass_export.errors import GenerationError
from glass_export.runtime import Generation, SamplingParams, Session
from glass_export.runtime.stats import Stopwatch
from glass_export.runtime.text import TextCodec
from glass_export.selection import SelectionRecipe

MakeSession = Callable[..., Session]
PROMPT = list(range(40, 61))
MASK = [0.0] * 5 + [1.0] * 12 + [0.0] * 4


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def assert_same(actual: Any, expected: Any) -> None:
    """Two prefills have the same logits and statistics."""
    close(actual.logits, expected.logits)
    close(actual.statistics.abs_sum, expected.statistics.abs_sum)
    close(actual.statistics.sq_sum, expected.statistics.sq_sum)
    assert actual.statistics.tokens == expected.statistics.tokens


def prefills(session: Session) -> list[tuple[int, int]]:
    """Position and length of every prefill call so far."""
    calls: list[tuple[int, int]] = session.backend.prefills  # type: ignore[attr-defined]  # the toy's log
    return calls


@pytest.mark.parametrize("chunk", [1, 4, 8, 20, 21])
def test_chunks_equal_the_whole(make_session: MakeSession, chunk: int) -> None:
    whole = make_session(prefill_chunk=64).prefill(PROMPT, MASK)
    session = make_session(prefill_chunk=chunk)
    assert_same(session.prefill(PROMPT, MASK), whole)
    assert max(size for _, size in prefills(session)) == min(chunk, 21)
    assert whole.statistics.tokens == 12


def test_statistics_are_of_the_masked_tokens_only(make_session: MakeSession) -> None:
    session = make_session(prefill_chunk=1)
    full = session.prefill(PROMPT).statistics
    session.reset()
    some = session.prefill(PROMPT, MASK).statistics
    session.reset()
    rest = session.prefill(PROMPT, [1 - weight for weight in MASK]).statistics
    close(some.sq_sum + rest.sq_sum, full.sq_sum)
    close(full.sq_sum.sum(axis=1), len(PROMPT))  # each token's u has length 1


@pytest.mark.parametrize("common", [0, 3, 5, 8, 11, 16, 20, 21])
def test_reuse_gives_what_a_fresh_run_gives(make_session: MakeSession, common: int) -> None:
    """A common beginning that ends anywhere in a chunk, then other tokens."""
    other, mask = [*PROMPT[:common], 90, 91, 92], [*MASK[:common], 1.0, 0.0, 1.0]
    session = make_session()
    session.prefill(PROMPT, MASK)
    again = session.prefill(other, mask)
    assert_same(again, make_session().prefill(other, mask))
    assert again.reused_tokens <= common
    assert session.tokens == tuple(other)


def test_reuse_stops_at_a_chunk_only_where_it_was_scored(make_session: MakeSession) -> None:
    session = make_session()  # chunks 0-7, 8-15 and 16-20; tokens 5-16 are scored
    session.prefill(PROMPT, MASK)
    assert session.prefill([*PROMPT[:4], 90], [*MASK[:4], 1]).reused_tokens == 4
    session.reset()
    session.prefill(PROMPT, MASK)
    assert session.prefill([*PROMPT[:12], 90], [*MASK[:12], 1]).reused_tokens == 8


def test_the_same_prompt_runs_its_last_chunk_again(make_session: MakeSession) -> None:
    session = make_session()
    first = session.prefill(PROMPT, MASK)
    again = session.prefill(PROMPT, MASK)
    assert_same(again, first)
    assert again.reused_tokens == 16


def test_a_shorter_prompt_forgets_the_rest(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    assert_same(session.prefill(PROMPT[:9], MASK[:9]), make_session().prefill(PROMPT[:9], MASK[:9]))


def test_another_mask_is_another_prompt(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    again = session.prefill(PROMPT)
    assert again.reused_tokens == 0
    assert_same(again, make_session().prefill(PROMPT))


def test_decode_equals_prefill_when_dense(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT[:10])
    for token in PROMPT[10:]:
        logits = session.decode(token)
    close(logits, make_session().prefill(PROMPT).logits)


def test_an_answer_is_reused_unless_it_is_to_be_scored(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT[:10], MASK[:10])
    for token in (70, 71, 72):
        session.decode(token)
    turn = [*PROMPT[:10], 70, 71, 72, 80]
    assert session.prefill(turn, [*MASK[:10], 0, 0, 0, 1]).reused_tokens == 13
    session.reset()
    session.prefill(PROMPT[:10], MASK[:10])
    session.decode(70)
    scored = session.prefill(turn, [*MASK[:10], 1, 1, 1, 1])
    assert_same(scored, make_session().prefill(turn, [*MASK[:10], 1, 1, 1, 1]))


def test_rewinding_tries_another_answer(make_session: MakeSession) -> None:
    session = make_session()
    known = session.prefill(PROMPT, MASK).statistics
    neurons = session.select(density=0.5)
    first = [session.decode(token).copy() for token in (70, 71, 72)]
    session.rewind(len(PROMPT))
    assert session.tokens == tuple(PROMPT)
    assert not np.allclose(session.decode(80), first[0])
    session.rewind(len(PROMPT))
    for token, logits in zip((70, 71, 72), first, strict=True):
        np.testing.assert_array_equal(session.decode(token), logits)
    session.rewind(len(PROMPT))
    np.testing.assert_array_equal(session.select(density=0.5), neurons)  # from the statistics kept
    calls = len(prefills(session))
    close(session.prefill(PROMPT, MASK).statistics.sq_sum, known.sq_sum)
    assert len(prefills(session)) == calls + 1
    for length in (-1, len(PROMPT) + 1):
        with pytest.raises(GenerationError, match=f"rewind: got {length}, expected 0 to 21"):
            session.rewind(length)


def test_rewinding_ends_refreshes(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    session.select(density=0.5, refresh=2)
    session.decode(70)
    session.rewind(len(PROMPT))
    calls = len(prefills(session))
    for token in range(70, 78):
        session.decode(token)
    assert len(prefills(session)) == calls


def test_density_one_is_exactly_dense(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT)
    dense = session.decode(70).copy()
    assert session.select(density=1.0).shape == (2, 24)
    session.prefill(PROMPT)
    np.testing.assert_array_equal(session.decode(70), dense)
    session.select(density=0.25)
    session.prefill(PROMPT)
    assert np.abs(session.decode(70) - dense).max() > 1e-3


def test_selected_neurons_are_the_ones_decoded_with(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT)
    neurons = session.select(density=0.5, fusion="local", local="griffin")
    first = session.decode(70).copy()
    session.prefill(PROMPT)
    session.select(density=1.0)
    session.set_neurons(neurons.tolist())
    np.testing.assert_array_equal(session.decode(70), first)


def test_every_fusion_and_form_selects(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    options: list[dict[str, Any]] = [
        *({"fusion": "borda", "local": form, "prior": "G"} for form in ("A", "griffin", "squared")),
        {"fusion": "shrinkage", "local": "squared", "prior": "G", "tau": 4.0},
        {"fusion": "global", "prior": "G"},
        {"lam": 0.0},
    ]
    for option in options:
        assert session.select(density=0.3, **option).shape == (2, 7)


def test_dense_layers_keep_all_at_the_cost_of_the_others(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    alike = session.select(density=0.75)
    neurons = session.select(density=0.75, dense_layers=[1])
    assert alike.shape == (2, 18) and neurons.shape == (2, 24)
    assert neurons[1].tolist() == list(range(24))
    assert (neurons[0, :12] >= 0).all() and (neurons[0, 12:] == -1).all()
    assert set(neurons[0, :12]) <= set(alike[0])
    assert session.select(density=1.0, dense_layers=[1]).tolist() == [list(range(24))] * 2
    np.testing.assert_array_equal(
        session.select(density=0.5, dense_layers=[1]), session.select(density=0.5)
    )  # the other one would keep none


def test_modes_are_the_rules_of_their_names(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, MASK)
    options: dict[str, dict[str, Any]] = {
        "auto": {},
        "paper-a": {"fusion": "borda", "local": "A", "prior": "A", "lam": 0.5},
        "paper-i": {"fusion": "borda", "local": "A", "prior": "I", "lam": 0.5},
        "griffin": {"fusion": "local", "local": "griffin"},
    }
    session.defaults = SelectionRecipe(mode="auto")
    chosen = {mode: session.select(mode=mode) for mode in options}  # type: ignore[arg-type]  # the dict's keys are modes
    for mode, option in options.items():
        np.testing.assert_array_equal(session.select(**option), chosen[mode])
    assert len({neurons.tobytes() for neurons in chosen.values()}) == 4


def test_all_statistics_unscored_is_an_error_but_for_the_prior(make_session: MakeSession) -> None:
    session = make_session()
    session.prefill(PROMPT, [0.0] * len(PROMPT))
    with pytest.raises(GenerationError, match="no prompt token was scored"):
        session.select(density=0.5)
    session.select(density=0.5, fusion="global")


@pytest.mark.parametrize(
    "neurons",
    [
        [[0, 1]],
        [[0, 1], [1, 0]],
        [[0, 1], [1, 1]],
        [[0, 1], [1, 24]],
        [[0, 1], [-1, 0]],
        [[0.0, 1.0], [0.0, 1.0]],
        np.zeros((2, 0), np.int32),
        [[*range(25)]] * 2,
    ],
)
def test_unusable_neurons_are_errors(make_session: MakeSession, neurons: Any) -> None:
    with pytest.raises(GenerationError, match="neurons"):
        make_session().set_neurons(neurons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0}, "density"),
        ({"density": -0.5}, "density"),
        ({"density": 1.5}, "density"),
        ({"density": float("nan")}, "density"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 2.5}, "max_new_tokens"),
        ({"fusion": "bord"}, "did you mean 'borda'"),
        ({"local": "grifin"}, "did you mean 'griffin'"),
        ({"prior": "Z"}, "known: A, F, G, I"),
        ({"prior": "F"}, "not in the artifact"),
        ({"lam": 2.0}, "lam"),
        ({"tau": -1.0}, "tau"),
        ({"tau": float("inf")}, "tau"),
        ({"mode": "paper-a", "lam": 0.25}, "lam: got 0.25 with mode 'paper-a'"),
        ({"mode": "auto", "sensitivity": 0.5}, "sensitivity: got 0.5 with fusion 'borda'"),
        ({"dense_layers": [2]}, r"dense_layers: got \[2\], expected layers 0 to 1"),
        ({"stop": [""]}, "stop"),
        ({"local_tokens": "some"}, "local_tokens"),
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": "word " * 200}, r"got \d+ tokens, the context holds 64.*export\.max_length"),
    ],
)
def test_unusable_requests_are_errors_and_harm_nothing(
    make_session: MakeSession, arguments: dict[str, Any], message: str
) -> None:
    session, fresh = make_session(), make_session()
    before = session.generate("Hello world", max_new_tokens=6)
    with pytest.raises(GenerationError, match=message):
        session.generate(**{"prompt": "How are you", **arguments})
    assert session.generate("How are you", max_new_tokens=6).token_ids == (
        fresh.generate("How are you", max_new_tokens=6).token_ids
    )
    assert session.generate("Hello world", max_new_tokens=6).token_ids == before.token_ids


@pytest.mark.parametrize("tokens", [[], [[1, 2]], [1.5], [-1], [100_000]])
def test_unusable_tokens_are_errors(make_session: MakeSession, tokens: Any) -> None:
    with pytest.raises(GenerationError, match="prompt"):
        make_session().prefill(tokens)


@pytest.mark.parametrize("mask", [[1.0], [1.0, float("nan")], [1.0, -1.0]])
def test_unusable_masks_are_errors(make_session: MakeSession, mask: list[float]) -> None:
    with pytest.raises(GenerationError, match="mask"):
        make_session().prefill([5, 6], mask)


def test_unknown_selection_arguments_are_type_errors(make_session: MakeSession) -> None:
    with pytest.raises(TypeError, match="densty"):
        make_session().generate("Hello", densty=0.5)  # type: ignore[call-arg]  # that is the test


def greedy_reference(session: Session, ids: list[int], count: int) -> list[int]:
    """Greedy tokens by running the whole sequence again for every token."""
    tokens: list[int] = []
    for _ in range(count):
        session.reset()
        tokens.append(int(session.prefill(ids + tokens).logits.argmax()))
    return tokens


def test_dense_generation_is_greedy_decoding(make_session: MakeSession, chat: TextCodec) -> None:
    result = make_session().generate("Hello world", max_new_tokens=12, density=1.0)
    ids = chat.encode_text("Hello world")[0]
    assert list(result.token_ids) == greedy_reference(make_session(), ids, 12)
    assert result.text == chat.decode(result.token_ids)
    assert result.finish_reason == "length"


def test_streamed_text_is_the_text(make_session: MakeSession) -> None:
    sent: list[str] = []
    sampling = SamplingParams(temperature=3.0, seed=3)
    result = make_session().generate(
        "Hello", max_new_tokens=40, sampling=sampling, stream=sent.append
    )
    assert "".join(sent) == result.text
    assert len(sent) > 3


def test_seeds_reproduce_an_answer(make_session: MakeSession) -> None:
    def answer(seed: int) -> Generation:
        sampling = SamplingParams(temperature=2.0, top_k=50, seed=seed)
        return make_session().generate("Hello", max_new_tokens=20, sampling=sampling)

    assert answer(1).token_ids == answer(1).token_ids != answer(2).token_ids


def test_end_of_text_stops_and_is_not_in_the_answer(make_session: MakeSession) -> None:
    free = make_session().generate("Hello world", max_new_tokens=12)
    eos = free.token_ids[5]
    result = make_session(eos=(eos,)).generate("Hello world", max_new_tokens=12)
    assert result.finish_reason == "stop"
    assert result.token_ids == free.token_ids[: free.token_ids.index(eos)]


def test_stop_strings_end_the_answer(make_session: MakeSession) -> None:
    sampling = SamplingParams(temperature=2.0, top_k=20, seed=0)
    free = make_session().generate("Hello world", max_new_tokens=20, sampling=sampling).text
    stop = free[len(free) // 2 : len(free) // 2 + 3]
    sent: list[str] = []
    result = make_session().generate(
        "Hello world", max_new_tokens=20, sampling=sampling, stop=stop, stream=sent.append
    )
    assert result.finish_reason == "stop"
    assert result.text == "".join(sent) == free[: free.index(stop)]


def test_a_full_context_ends_the_answer(make_session: MakeSession, chat: TextCodec) -> None:
    session = make_session(max_length=16)
    prompt = chat.encode_text("Hello world")[0]
    result = session.generate("Hello world", max_new_tokens=100)
    assert result.finish_reason == "context"
    assert len(prompt) + len(result.token_ids) == 17  # the last one needs no place in the cache
    with pytest.raises(GenerationError, match="context of 16 tokens is full"):
        session.decode(5)
    assert session.generate("Hello", max_new_tokens=1).finish_reason == "length"


def test_a_prompt_that_fills_the_context_still_gets_one_token(make_session: MakeSession) -> None:
    session = make_session(max_length=21)
    assert session.prefill(PROMPT).logits.shape == (session.backend.dims.vocab_size,)
    with pytest.raises(GenerationError, match="got 22 tokens"):
        session.prefill([*PROMPT, 1])


def test_chat_turns_reuse_the_conversation(make_session: MakeSession) -> None:
    session = make_session(max_length=128)
    messages = [
        {"role": "system", "content": "answer the question"},
        {"role": "user", "content": "Hello world"},
    ]
    first = session.generate(messages, max_new_tokens=8)
    assert first.stats.reused_tokens == 0
    messages += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "how are you"},
    ]
    second = session.generate(messages, max_new_tokens=8)
    assert second.stats.reused_tokens >= first.prompt_tokens
    assert session.generate(messages, reset=True, max_new_tokens=8).stats.reused_tokens == 0


def test_local_tokens_decides_what_is_scored(make_session: MakeSession) -> None:
    messages = [{"role": "user", "content": "Hello world"}]
    user, every = (
        make_session().text.encode(messages, which)[1].sum() for which in ("user", "all")
    )
    assert 0 < user < every


def test_stats_add_up(make_session: MakeSession) -> None:
    session = make_session()
    result = session.generate("Hello world, how are you", max_new_tokens=10, density=0.5)
    stats = result.stats
    assert (stats.prompt_tokens, stats.reused_tokens) == (result.prompt_tokens, 0)
    assert (stats.new_tokens, stats.density, stats.kept_neurons) == (10, 0.5, 12)
    assert stats.ttft_ms >= stats.select_ms >= stats.fusion_ms > 0
    assert stats.prefill_tps > 0 and stats.decode_tps > 0
    assert stats.peak_rss_mb is None or stats.peak_rss_mb > 10
    dense = session.generate("Hello", max_new_tokens=1, density=1.0).stats
    assert (dense.fusion_ms, dense.decode_tps, dense.kept_neurons) == (0.0, 0.0, 24)


def test_select_notes_its_times(make_session: MakeSession) -> None:
    session, watch = make_session(), Stopwatch()
    session.prefill(PROMPT)
    session.select(watch, density=0.5)
    assert watch.ms("select") > watch.ms("fusion") > 0


def test_nan_is_an_error_after_which_the_session_works(make_session: MakeSession) -> None:
    session = make_session()
    expected = session.generate("Hello world", max_new_tokens=5).token_ids
    weights: Any = session.backend._embed  # type: ignore[attr-defined]  # the toy's weights
    saved = weights[7].copy()
    weights[7] = np.nan
    with pytest.raises(GenerationError, match="logits"):
        session.generate("Hello world", max_new_tokens=5)
    weights[7] = saved
    assert session.tokens == ()
    assert session.generate("Hello world", max_new_tokens=5).token_ids == expected


def test_an_interrupted_stream_leaves_the_cache_right(make_session: MakeSession) -> None:
    def interrupt(piece: str) -> None:
        raise KeyboardInterrupt

    session = make_session()
    with pytest.raises(KeyboardInterrupt):
        session.generate("Hello world", stream=interrupt)
    expected = make_session().generate("Hello world", max_new_tokens=5, density=1.0)
    assert session.generate("Hello world", max_new_tokens=5, density=1.0).text == expected.text


def test_closing_frees_the_engine(make_session: MakeSession) -> None:
    with make_session() as session:
        pass
    assert session.backend.closed  # type: ignore[attr-defined]  # the toy's flag
