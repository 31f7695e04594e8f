"""Loading: GGUF files and folders give the model they were made of, and damage is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config, tiny_model, tiny_tokenizer
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from glass_export.errors import GlassError, SourceError, UnsupportedModelError
from glass_export.gguf_file import GgufFile
from glass_export.gguf_model import read_config
from glass_export.load import LoadedModel, load_model
from glass_export.recipe import resolve

TOKENS = torch.tensor([[5, 80, 11, 200, 7, 31]])
ARCHITECTURES = {"gemma3_text": "gemma3"}
"""GGUF's names, where they are not those of transformers."""
Q = gguf.GGMLQuantizationType


def get(path: Path) -> LoadedModel:
    return load_model(resolve(str(path)).model)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def write_gguf(
    model: PreTrainedModel,
    path: Path,
    *,
    replace: dict[str, tuple[np.ndarray, Q] | None] | None = None,
    architecture: str | None = None,
    **metadata: str,
) -> Path:
    """Convert a tiny model the way llama.cpp does.

    ``replace``: other tensors, floats or the bytes of rows; None leaves one out.
    """
    config = model.config
    architecture = architecture or ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    _write_numbers(writer, architecture, config)
    for key, value in metadata.items():
        writer.add_string(key.replace("__", "."), value)
    _write_vocabulary(writer)
    for name, (data, kind) in (_tensors(model, architecture) | (replace or {})).items():
        raw = data if data.dtype == np.uint8 else gguf.quantize(np.ascontiguousarray(data), kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_numbers(writer: gguf.GGUFWriter, architecture: str, config: PreTrainedConfig) -> None:
    """What llama.cpp's conversion writes of each architecture."""
    if architecture == "stablelm":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_rope_dimension_count(
            int(config.rope_parameters["partial_rotary_factor"] * config.hidden_size)
            // config.num_attention_heads
        )
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    theta = config.rope_parameters.get("rope_theta") or config.rope_parameters["full_attention"]
    writer.add_rope_freq_base(theta if isinstance(theta, float) else theta["rope_theta"])
    if head_dim := getattr(config, "head_dim", None):
        writer.add_key_length(head_dim)
    if architecture.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _write_vocabulary(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    special = set(tokenizer.backend_tokenizer.get_added_tokens_decoder())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0].content }}")


def _tensors(model: PreTrainedModel, architecture: str) -> dict[str, tuple[np.ndarray, Q]]:
    names = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture),
        model.config.num_hidden_layers,
    )
    tensors = {}
    for parameter, value in model.state_dict().items():
        if parameter == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        stem, _, suffix = parameter.rpartition(".")
        data = value.numpy()
        if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
            heads = data.shape[0] // model.config.head_dim
            data = data.reshape(heads, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        if architecture.startswith("gemma") and stem.endswith("norm"):
            data = data + 1
        tensors[f"{names.get_name(stem)}.{suffix}"] = (data, Q.F32)
    return tensors


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tiny_model("qwen2"), tmp_path_factory.mktemp("gguf") / "qwen2.gguf")


@pytest.fixture(scope="module")
def tiny_qwen2() -> PreTrainedModel:
    return tiny_model("qwen2")


def unscaled(family: str, **values: object) -> PreTrainedModel:
    """A tiny model with the plain rotary embedding, which GGUF files can tell."""
    config = tiny_config(family)
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        config.rope_parameters = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    for name, value in values.items():
        setattr(config, name, value)
    return tiny_model(config)


GGUF_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny_model("llama"),
    "qwen2": lambda: tiny_model("qwen2"),
    "qwen3": lambda: unscaled("qwen3"),
    "gemma2": lambda: unscaled("gemma2", query_pre_attn_scalar=32),
    "phi3": lambda: unscaled("phi3", sliding_window=None),
    "stablelm": lambda: tiny_model("stablelm"),
    "stablelm without biases, in parallel": lambda: unscaled(
        "stablelm", use_qkv_bias=False, use_parallel_residual=True
    ),
}


@pytest.mark.parametrize("name", GGUF_MODELS)
def test_gguf_gives_the_model_it_was_made_of(name: str, tmp_path: Path) -> None:
    original = GGUF_MODELS[name]()
    loaded = get(write_gguf(original, tmp_path / "m.gguf"))
    torch.testing.assert_close(logits(loaded.model), logits(original), rtol=1e-5, atol=1e-5)
    assert loaded.model.config.tie_word_embeddings == original.config.tie_word_embeddings


@pytest.mark.parametrize(("layers", "scalar"), [(2, 256), (46, 16)])
def test_the_largest_gemma_scales_queries_by_its_width(layers: int, scalar: int) -> None:
    file = SimpleNamespace(
        path=Path("gemma.gguf"),
        metadata={
            "general.architecture": "gemma2",
            "gemma2.block_count": layers,
            "gemma2.embedding_length": 64,
            "gemma2.attention.head_count": 4,
            "gemma2.attention.key_length": 256,
            "tokenizer.ggml.tokens": ["a"],
        },
        tensors={"token_embd.weight": SimpleNamespace(shape=(1, 64))},
    )
    assert read_config(file).query_pre_attn_scalar == scalar  # type: ignore[arg-type]  # headers


def test_gemmas_norms_lose_the_one_that_gguf_adds(tmp_path: Path) -> None:
    original = tiny_model("gemma3_text")
    loaded = get(write_gguf(original, tmp_path / "m.gguf")).model
    assert loaded.config.model_type == "gemma3_text"
    for name, value in original.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_loaded_model_is_ready_for_export(tiny_gguf: Path) -> None:
    loaded = get(tiny_gguf)
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.config._attn_implementation == "sdpa"
    assert getattr(loaded.model.config, "quantization_config", None) is None
    assert loaded.model.config.name_or_path == ""
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert (loaded.bos_token_id, loaded.eos_token_ids) == (0, (1,))


def test_tokenizer_of_a_gguf_survives_saving(tiny_gguf: Path, tmp_path: Path) -> None:
    tokenizer = get(tiny_gguf).tokenizer
    tokenizer.save_pretrained(tmp_path)
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= {
        path.name for path in tmp_path.iterdir()
    }
    ids = tokenizer("the lazy dog  42").input_ids
    assert tokenizer.decode(ids) == "the lazy dog  42"
    spaces = tokenizer.convert_ids_to_tokens(ids)[-4:]
    assert spaces == ["Ġ", "Ġ", "4", "2"] or spaces[-3:] == ["ĠĠ", "4", "2"]
    assert tokenizer.model_max_length == 256
    assert "<|endoftext|>" not in tokenizer.get_vocab(), "not in the file, so not in the model"


def test_library_leaves_transformers_verbosity_alone(tiny_gguf: Path) -> None:
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    get(tiny_gguf)
    after = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    assert before == after


@pytest.mark.parametrize("precise", ["token_embd.weight", "output.weight"])
def test_an_embedding_stored_twice_is_tied_to_the_more_precise(
    tmp_path: Path, precise: str
) -> None:
    original = tiny_model("qwen2")
    weights = original.model.embed_tokens.weight.numpy()
    types = dict.fromkeys(("token_embd.weight", "output.weight"), (weights, Q.Q5_0))
    types[precise] = (weights, Q.Q8_0)
    path = write_gguf(original, tmp_path / "m.gguf", replace=types)
    model = get(path).model
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.model.embed_tokens.weight
    expected = gguf.dequantize(gguf.quantize(weights, Q.Q8_0), Q.Q8_0)
    np.testing.assert_array_equal(model.lm_head.weight.numpy(), expected)


def test_an_output_matrix_of_its_own_stays(tmp_path: Path) -> None:
    original = tiny_model("qwen2")
    other = np.random.default_rng(0).normal(size=original.lm_head.weight.shape).astype(np.float32)
    replace = {"output.weight": (other, Q.F32)}
    model = get(write_gguf(original, tmp_path / "m.gguf", replace=replace)).model
    assert not model.config.tie_word_embeddings
    np.testing.assert_array_equal(model.lm_head.weight.numpy(), other)


def raw_rows(kind: Q, rows: int) -> np.ndarray:
    """Bytes of ``rows`` rows of 256 finite weights, whatever the type: random blocks."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if kind in (Q.F16, Q.BF16, Q.F32):
        data = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
        return gguf.quantize(data, kind).reshape(rows, -1).view(np.uint8)
    needed = rows * 256 // block
    random = np.random.default_rng(0).integers(0, 256, (2 * needed + 64, size), np.uint8)
    with np.errstate(all="ignore"):
        finite = np.isfinite(gguf.dequantize(random, kind)).all(1)
    return np.ascontiguousarray(random[finite][:needed].reshape(rows, -1))


def dequantisable(kind: Q) -> bool:
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


@pytest.mark.parametrize("kind", [*filter(dequantisable, Q)], ids=lambda kind: kind.name)
def test_pieces_of_a_tensor_are_dequantised_as_ggufs_own_library_does(
    tiny_qwen2: PreTrainedModel, tmp_path: Path, kind: Q
) -> None:
    raw = raw_rows(kind, 1100)  # two pieces
    path = write_gguf(tiny_qwen2, tmp_path / "m.gguf", replace={"extra.weight": (raw, kind)})
    expected = gguf.dequantize(raw, kind).astype(np.float32)
    file = GgufFile.open(path)
    assert expected.shape == (1100, 256) and expected.any()
    np.testing.assert_array_equal(file.read("extra.weight"), expected)
    np.testing.assert_array_equal(file.read("extra.weight", start=7, stop=9), expected[7:9])


def test_every_type_that_models_are_quantised_to_is_among_these() -> None:
    names = {kind.name for kind in Q if dequantisable(kind)}
    assert names >= {
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K",
        "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
        "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Q.I8, Q.Q8_1], ids=lambda kind: kind.name)
def test_a_type_that_cannot_be_dequantised_is_told(
    tiny_qwen2: PreTrainedModel, tmp_path: Path, kind: Q
) -> None:
    rows = np.zeros((2, gguf.GGML_QUANT_SIZES[kind][1] * 256), np.uint8)
    path = write_gguf(tiny_qwen2, tmp_path / "m.gguf", replace={"extra.weight": (rows, kind)})
    with pytest.raises(SourceError, match=f"stored as {kind.name}.*another quantisation"):
        GgufFile.open(path).read("extra.weight")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.3, 0.9, 0.999])
def test_truncated_gguf(tiny_gguf: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.gguf"
    data = tiny_gguf.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match="download it again"):
        get(path)


def test_random_damage_of_a_gguf_header_is_told(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    path = tmp_path / "damaged.gguf"
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for place in random.integers(0, 12_000, 8):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            GgufFile.open(path)
        except SourceError as problem:
            assert "damaged.gguf" in str(problem)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF\x01\x00\x00\x00", "GGUF version 1, expected 2 or 3"),
        (b"GGUF\x00\x00\x00\x03", "GGUF version big-endian"),
    ],
)
def test_other_files(tmp_path: Path, begin: bytes, message: str) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(begin + bytes(100))
    with pytest.raises(SourceError, match=message):
        get(path)


def test_unusable_ggufs(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    norm = "blk.0.attn_norm.weight"
    nan = np.full(64, np.nan, np.float32)
    cases: list[tuple[dict[str, object], type[GlassError], str]] = [
        ({"replace": {norm: (nan, Q.F32)}}, SourceError, "holds NaN or infinity"),
        (
            {"replace": {norm: (np.ones(32, np.float32), Q.F32)}},
            SourceError,
            r"got \(32,\), expected \(64,\)",
        ),
        (
            {"replace": {"blk.0.extra.weight": (nan, Q.F32)}},
            UnsupportedModelError,
            "1 tensors have no place in a qwen2 model",
        ),
        ({"qwen2__rope__scaling__type": "yarn"}, UnsupportedModelError, "rotary scaling"),
        ({"general__architecture": "unheard-of"}, UnsupportedModelError, "cannot be converted"),
    ]
    for number, (change, error, message) in enumerate(cases):
        path = write_gguf(model, tmp_path / f"{number}.gguf", **change)  # type: ignore[arg-type]  # a mix
        with pytest.raises(error, match=message):
            get(path)


def test_folder_of_any_float_type_becomes_float32(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = checkpoint("llama")
    original = get(folder)
    assert original.source.kind == "local"
    torch.testing.assert_close(logits(original.model), logits(tiny_model("llama")))
    shutil.copytree(folder, tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        save_file({k: v.to(dtype) for k, v in weights.items()}, tmp_path / "half/model.safetensors")
        state = get(tmp_path / "half").model.state_dict()
        for name, value in weights.items():
            assert torch.equal(state[name], value.to(dtype).float()), name


def test_a_checkpoint_in_several_files_is_loaded_whole(sharded: Path, tmp_path: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    loaded = get(sharded).model.state_dict()
    expected = tiny_model("llama").state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name].bfloat16().float()) for name in loaded)
    copy = shutil.copytree(sharded, tmp_path / "m")
    shard = min(copy.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(SourceError, match=f"{shard.name}: damaged or truncated"):
        get(copy)


def test_eos_comes_from_every_place_that_names_one(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "m")
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    loaded = get(folder)
    assert loaded.eos_token_ids == (1, 7, 9)
    assert loaded.model.generation_config.eos_token_id == [1, 7, 9]


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def damage_truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_drop(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def damage_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "damaged or truncated"),
        (damage_drop, r"1 weights are missing \(model.layers.1.mlp.up_proj.weight\)"),
        (damage_nan, "model.norm.weight holds NaN or infinity"),
        (
            lambda f: edit(f / "config.json", hidden_size=128),
            "do not fit the model's configuration",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), "the tokenizer cannot be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "the tokenizer cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_text("x"), "damaged or truncated"),
    ],
)
def test_damaged_folder(
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "m")
    damage(folder)
    with pytest.raises(SourceError, match=message):
        get(folder)


def test_code_that_comes_with_a_model_is_never_run(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "m")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit(
        folder / "config.json",
        model_type="evil",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    )
    with pytest.raises(UnsupportedModelError, match="code from a model's folder is never run"):
        get(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "nonsense"}, "not one that the installed transformers understands"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\)"),
    ],
)
def test_unsupported_folder(
    checkpoint: Callable[[str], Path], tmp_path: Path, values: dict[str, object], message: str
) -> None:
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "m")
    edit(folder / "config.json", **values)
    with pytest.raises(UnsupportedModelError, match=message):
        get(folder)
