"""An artifact as a model of transformers: the same tokens as Session, by transformers' own loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CONTEXT, VOCABULARY
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
    pipeline,
)

from glass_export import GlassForCausalLM, Session
from glass_export.errors import ArtifactError, GenerationError

CHAT = [{"role": "user", "content": "the quick fox"}]
TALK = [*CHAT, {"role": "assistant", "content": "dog"}, {"role": "user", "content": "lazy brown"}]
GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def artifact(exported: Callable[..., Path]) -> Path:
    return exported("llama")


@pytest.fixture(scope="module")
def tokenizer(artifact: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(artifact)


@pytest.fixture
def model(artifact: Path) -> Iterator[GlassForCausalLM]:
    model = GlassForCausalLM.from_pretrained(artifact, threads=1)
    yield model
    model.close()


@pytest.fixture
def session(artifact: Path) -> Iterator[Session]:
    with Session.open(artifact, threads=1) as session:
        yield session


def chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> Any:
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )


def answer(model: GlassForCausalLM, inputs: Any, **settings: Any) -> list[int]:
    """The new tokens, without the one that ends the text."""
    tokens = model.generate(**inputs, **{**GREEDY, **settings})[0, inputs["input_ids"].shape[1] :]
    return [token for token in tokens.tolist() if token != model.generation_config.pad_token_id]


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"density": 0.25},
        {"density": 1.0},
        {"refresh": 4, "dense_start": 3},
        {"mode": "griffin", "density": 0.25},
        {"profile": "balanced"},
    ],
    ids=str,
)
def test_greedy_tokens_are_those_of_a_session(
    model: GlassForCausalLM,
    session: Session,
    tokenizer: PreTrainedTokenizerBase,
    selection: dict[str, Any],
) -> None:
    for messages in (CHAT, TALK):
        expected = session.generate(messages, max_new_tokens=12, **selection).token_ids
        assert answer(model, chat(tokenizer, messages), **selection) == list(expected)
    expected = session.generate("the lazy dog", max_new_tokens=12, **selection).token_ids
    plain = tokenizer("the lazy dog", return_tensors="pt")
    assert answer(model, plain, **selection) == list(expected)


@pytest.mark.slow
def test_an_artifact_for_executorch_gives_a_sessions_tokens(
    exported: Callable[..., Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    artifact = exported("llama", "executorch")
    with Session.open(artifact) as session:
        expected = session.generate(CHAT, max_new_tokens=12, density=0.25).token_ids
    model = GlassForCausalLM.from_pretrained(artifact, density=0.25)
    assert answer(model, chat(tokenizer, CHAT)) == list(expected)
    model.close()


def test_the_answers_differ_by_density_and_the_later_word_wins(
    artifact: Path, tokenizer: PreTrainedTokenizerBase, model: GlassForCausalLM
) -> None:
    inputs = chat(tokenizer, CHAT)
    dense, sparse = answer(model, inputs, density=1.0), answer(model, inputs, density=0.25)
    assert dense != sparse
    other = GlassForCausalLM.from_pretrained(artifact, density=0.25)
    assert answer(other, inputs) == sparse
    assert answer(other, inputs, density=1.0) == dense
    other.selection = {"density": 1.0}
    assert answer(other, inputs) == dense
    with pytest.raises(AttributeError, match="selection = {'density'"):
        other.density = 0.5
    other.close()


def test_a_longer_conversation_reuses_what_the_cache_holds(
    model: GlassForCausalLM, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    prefill = model.session.backend.prefill
    monkeypatch.setattr(
        model.session.backend,
        "prefill",
        lambda tokens, *rest: computed.append(len(tokens)) or prefill(tokens, *rest),
    )
    prompt, talk = chat(tokenizer, CHAT)["input_ids"], chat(tokenizer, TALK)["input_ids"]
    said = tokenizer("dog", return_tensors="pt")["input_ids"]
    assert torch.equal(talk[:, : prompt.shape[1] + said.shape[1]], torch.cat([prompt, said], 1))
    cache = model(prompt).past_key_values
    for token in said[0]:
        cache = model(token.reshape(1, 1), past_key_values=cache).past_key_values
    model.generate(talk, **GREEDY)
    assert computed == [prompt.shape[1], talk.shape[1] - prompt.shape[1] - said.shape[1]]


def test_left_padding_changes_nothing(
    model: GlassForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    inputs = chat(tokenizer, CHAT)
    width = inputs["input_ids"].shape[1]
    padded = {
        "input_ids": torch.nn.functional.pad(inputs["input_ids"], (4, 0), value=1),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (4, 0)),
    }
    plain = model.generate(**inputs, **GREEDY)[0, width:]
    assert torch.equal(model.generate(**padded, **GREEDY)[0, width + 4 :], plain)


@pytest.mark.parametrize("mask", [[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]])
def test_other_padding_is_refused(model: GlassForCausalLM, mask: list[int]) -> None:
    with pytest.raises(GenerationError, match="padding_side = 'left'"):
        model.generate(torch.tensor([[5, 6, 7, 8]]), attention_mask=torch.tensor([mask]), **GREEDY)


def test_the_answer_ends_when_the_context_is_full(
    model: GlassForCausalLM, session: Session
) -> None:
    prompt = list(range(5, 85))
    model.generation_config.eos_token_id = None
    tokens = model.generate(torch.tensor([prompt]), max_new_tokens=CONTEXT, do_sample=False)
    assert tokens.shape[1] == CONTEXT + 1, "the last token needs no place in the cache"


def test_sampling_is_transformers_own(
    model: GlassForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    def sampled(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return answer(model, chat(tokenizer, CHAT), do_sample=True, temperature=1.5)

    assert sampled(0) == sampled(0) != sampled(1)


def test_stopping_criteria_and_processors_see_the_sequence(
    model: GlassForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    class AfterThree(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> torch.Tensor:
            return torch.tensor([input_ids.shape[1] == width + 3])

    inputs = chat(tokenizer, CHAT)
    width = inputs["input_ids"].shape[1]
    whole = model.generate(**inputs, **GREEDY)
    cut = model.generate(**inputs, **GREEDY, stopping_criteria=StoppingCriteriaList([AfterThree()]))
    assert torch.equal(cut, whole[:, : width + 3])
    first = int(whole[0, width])
    barred = model.generate(**inputs, **GREEDY, bad_words_ids=[[first]])
    assert first not in barred[0, width:]


def test_logits_are_returned_when_asked_for(model: GlassForCausalLM, session: Session) -> None:
    ids = [5, 80, 11, 200]
    outcome = model.generate(
        torch.tensor([ids]),
        **GREEDY,
        return_dict_in_generate=True,
        output_logits=True,
    )
    assert outcome.logits[0].shape == (1, VOCABULARY)
    assert len(outcome.logits) == outcome.sequences.shape[1] - len(ids)
    expected = session.prefill(ids).logits
    torch.testing.assert_close(outcome.logits[0][0], torch.tensor(expected))


def test_a_streamer_gets_the_text(
    model: GlassForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = chat(tokenizer, CHAT)
    tokens = model.generate(**inputs, **GREEDY, streamer=TextStreamer(tokenizer, skip_prompt=True))
    shown = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :])
    assert shown and capsys.readouterr().out == shown + "\n"


def test_a_pipeline_generates_text(
    model: GlassForCausalLM,
    session: Session,
    tokenizer: PreTrainedTokenizerBase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        generator = pipeline("text-generation", model=model, tokenizer=tokenizer)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert caplog.records == [], "the class is one that transformers knows"
    (plain,) = generator("the quick", **GREEDY, density=0.25)
    assert plain["generated_text"].startswith("the quick")
    (talk,) = generator(CHAT, **GREEDY, density=0.25)
    expected = session.generate(CHAT, max_new_tokens=12, density=0.25).text
    assert talk["generated_text"][-1] == {"role": "assistant", "content": expected}
    assert len(generator(["the quick", "the lazy dog"], **GREEDY)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "got beam_search, expected greedy search or sampling"),
        ({"prompt_lookup_num_tokens": 2}, "got assisted_generation"),
        ({"do_sample": True, "num_return_sequences": 2}, "call generate.. for each sequence"),
        ({"use_cache": False}, "always decodes over its own"),
        ({"cache_implementation": "static"}, "always decodes over its own"),
        ({"output_hidden_states": True}, "logits alone"),
        ({"guidance_scale": 1.5}, "guidance needs a second conversation"),
        ({"past_key_values": object()}, "ids of the whole conversation"),
        ({"inputs_embeds": torch.zeros(1, 2, 64)}, "pass input_ids"),
        ({"density": 1.5}, "density: got 1.5"),
        ({"profile": "nonsense"}, "profile: got 'nonsense'"),
    ],
)
def test_what_an_artifact_cannot_do_is_refused(
    model: GlassForCausalLM, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(GenerationError, match=message):
        model.generate(torch.tensor([[5, 6, 7]]), **{**GREEDY, **settings})
    assert model.session.tokens == (), "before any work"


def test_a_batch_is_refused(model: GlassForCausalLM) -> None:
    with pytest.raises(GenerationError, match="got a batch of 2, expected one sequence"):
        model.generate(torch.tensor([[5, 6], [7, 8]]), **GREEDY)


def test_a_misspelt_argument_is_told(model: GlassForCausalLM, artifact: Path) -> None:
    with pytest.raises(ValueError, match="densty"):
        model.generate(torch.tensor([[5, 6]]), **GREEDY, densty=0.5)
    with pytest.raises(GenerationError, match=r"got 'densty'.*density"):
        GlassForCausalLM.from_pretrained(artifact, densty=0.5)
    with pytest.raises(ArtifactError, match="no such directory"):
        GlassForCausalLM.from_pretrained(artifact / "nowhere")


def test_calls_of_forward_are_a_conversation(model: GlassForCausalLM, session: Session) -> None:
    ids = torch.tensor([[5, 80, 11]])
    first = model(ids, selection={"density": 0.25})
    second = model(torch.tensor([[7]]), past_key_values=first.past_key_values)
    session.prefill([5, 80, 11])
    session.select(density=0.25)
    torch.testing.assert_close(second.logits[0, 0], torch.tensor(session.decode(7)))
    with pytest.raises(GenerationError, match="not of the latest call"):
        model(torch.tensor([[7]]), past_key_values=first.past_key_values)
    with pytest.raises(GenerationError, match="got 2 tokens after a cache"):
        model(torch.tensor([[7, 8]]), past_key_values=second.past_key_values)
    with pytest.raises(GenerationError, match="logits_to_keep=0"):
        model(ids, logits_to_keep=0)
    model.session.reset()
    with pytest.raises(GenerationError, match="not of the latest call"):
        model(torch.tensor([[7]]), past_key_values=second.past_key_values)


def test_an_artifact_is_not_saved(model: GlassForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="copy its directory"):
        model.save_pretrained(tmp_path)
