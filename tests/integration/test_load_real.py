"""The recipes' real models: fetched, loaded, and able to write a sensible sentence.

SmolLM2 (98 MB) is always fetched; the larger models only when they are in the cache already, or
when GLASS_TEST_ALL_MODELS is set.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from real_models import fetched_or_skip
from tokenizers import Tokenizer

from glass_export.load import LoadedModel, load_model
from glass_export.recipe import resolve
from glass_export.sources import fetch

pytestmark = pytest.mark.slow

MODELS = ("smollm2", "qwen2", "gemma3")
TEXTS = (
    "Hello  world",
    " leading and trailing ",
    "In 2024,  12345 items\n\n\tcost 3.50",
    "naïve café — 東京 🙂",
    "x = [i for i in range(10)]",
    "",
)
MEASURE = """
import sys, time
from pathlib import Path
from glass_export.load import load_model
from glass_export.recipe import resolve
from glass_export.sources import fetch
fetched = fetch(resolve(sys.argv[1]).model)
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
before, begin = peak(), time.monotonic()
model = load_model(fetched).model
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print((peak() - before) / weights, peak() / 1e6, time.monotonic() - begin)
"""


@cache
def real(name: str) -> LoadedModel:
    return load_model(fetch(resolve(name).model))


@pytest.fixture(params=MODELS)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    fetched_or_skip(request.param)
    return real(request.param)


def test_tied_and_float32(loaded: LoadedModel) -> None:
    model = loaded.model
    assert model.config.tie_word_embeddings
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert len(loaded.source.sha256) == 64


def test_saved_tokenizer_works_without_transformers(loaded: LoadedModel, tmp_path: Path) -> None:
    loaded.tokenizer.save_pretrained(tmp_path)
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        ids = plain.encode(text).ids
        assert ids == loaded.tokenizer(text).input_ids
        assert plain.decode(ids) == text
        assert max(ids, default=0) < loaded.model.config.vocab_size


@pytest.mark.parametrize(
    ("name", "bos", "eos", "begins_with_bos", "chats"),
    [
        ("smollm2", "<|im_start|>", {"<|im_end|>", "<|endoftext|>"}, False, True),
        ("qwen2", "<|endoftext|>", {"<|im_end|>", "<|endoftext|>"}, False, True),
        ("gemma3", "<bos>", {"<eos>", "<end_of_turn>"}, True, False),
    ],
)
def test_special_tokens(
    name: str, bos: str, eos: set[str], begins_with_bos: bool, chats: bool
) -> None:
    fetched_or_skip(name)
    loaded = real(name)
    tokenizer = loaded.tokenizer
    assert tokenizer.convert_ids_to_tokens(loaded.bos_token_id) == bos
    assert set(tokenizer.convert_ids_to_tokens(list(loaded.eos_token_ids))) == eos
    assert (tokenizer("Hi").input_ids[0] == loaded.bos_token_id) == begins_with_bos
    assert bool(tokenizer.chat_template) == chats


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("smollm2", "In  2024", ["In", "ĠĠ", "2", "0", "2", "4"]),  # digits stand alone
        ("qwen2", "e\u0301", ["Ã©"]),  # NFC
        ("qwen2", "In  2024", ["In", "Ġ", "Ġ", "2", "0", "2", "4"]),
        ("gemma3", "In  2024\n\n", ["<bos>", "In", "▁▁", "2", "0", "2", "4", "\n\n"]),
    ],
)
def test_text_is_split_as_the_original_tokenizer_does(
    name: str, text: str, tokens: list[str]
) -> None:
    fetched_or_skip(name)
    tokenizer = real(name).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokens


@pytest.mark.parametrize(
    ("name", "answer"), [("smollm2", "Paris"), ("qwen2", "Paris"), ("gemma3", "France")]
)
def test_greedy_text_is_sensible(name: str, answer: str) -> None:
    fetched_or_skip(name)
    loaded = real(name)
    tokenizer = loaded.tokenizer
    if tokenizer.chat_template:
        question = [{"role": "user", "content": "What is the capital of France?"}]
        ids = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
    else:
        ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    out = loaded.model.generate(ids, max_new_tokens=16, do_sample=False)
    assert answer in tokenizer.decode(out[0, ids.shape[1] :])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", MODELS)
def test_loading_holds_little_more_than_the_weights(name: str) -> None:
    fetched_or_skip(name)
    command = [sys.executable, "-c", MEASURE, name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ratio, peak_mb, seconds = map(float, output.split())
    print(f"{name}: peak {ratio:.2f} x weights, {peak_mb:.0f} MB in all, {seconds:.1f} s")
    assert ratio <= 1.3
