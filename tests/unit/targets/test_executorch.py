"""The ExecuTorch target on tiny models: structure, sharing, and numbers of whole programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executorch.exir._serialize._program import PTEFile, deserialize_pte_binary
from executorch.exir.passes import MemoryPlanningPass
from executorch.runtime import Runtime
from tiny_models import (
    CONTEXT,
    D_FF,
    LAYERS,
    MAIN,
    SHALLOW,
    VOCABULARY,
    every,
    tiny_model,
)

from glass_export.artifact import Artifact
from glass_export.capture import caches, capture
from glass_export.errors import GenerationError, LoweringError, VerificationError
from glass_export.families import find_ffns
from glass_export.passes import default_passes
from glass_export.pipeline import export
from glass_export.recipe import TargetRecipe
from glass_export.runtime.base import PrefillResult
from glass_export.runtime.executorch import ExecuTorchBackend
from glass_export.runtime.program_metadata import decode
from glass_export.spec import LOGIT_ROWS
from glass_export.targets import load_target
from glass_export.targets.base import LoweringInput
from glass_export.targets.executorch import program as program_module
from glass_export.verify.eager import masked, score_sums

Exported = Callable[..., Path]
CHUNK = 32
PORTABLE = "target.custom_ops=false"
NATIVE = (*MAIN, "smollm3", "phi3")
STOCK = ("llama",)
TOKENS = np.random.default_rng(0).integers(2, VOCABULARY, 2 * CHUNK + 1)


def depth(family: str) -> int:
    """Layers of the native programs."""
    return LAYERS if family in MAIN else SHALLOW[family]


@dataclass(frozen=True)
class Program:
    """A program of either dialect."""

    folder: Path
    family: str
    layers: int
    custom_ops: bool


@pytest.fixture(params=every(*NATIVE))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(exported: Exported, family: str) -> Path:
    return exported(family, "executorch", layers=depth(family))


@pytest.fixture(params=every(*STOCK))
def portable(exported: Exported, request: pytest.FixtureRequest) -> Program:
    return portable_program(exported, request.param)


@pytest.fixture(params=["native", *every(*STOCK)])
def program(exported: Exported, request: pytest.FixtureRequest) -> Program:
    """A native one, and all portable ones."""
    if request.param != "native":
        return portable_program(exported, request.param)
    return Program(exported("llama", "executorch"), "llama", LAYERS, True)


def portable_program(exported: Exported, family: str) -> Program:
    layers = SHALLOW[family]
    folder = exported(family, "executorch", PORTABLE, layers=layers)
    return Program(folder, family, layers, False)


@pytest.fixture
def backend(folder: Path) -> Iterator[ExecuTorchBackend]:
    backend = ExecuTorchBackend(Artifact.open(folder))
    yield backend
    backend.close()


def stored(folder: Path) -> PTEFile:
    return deserialize_pte_binary((folder / "model.pte").read_bytes())


def constant(folder: Path, method: str) -> Any:
    (value,) = Runtime.get().load_program(folder / "model.pte").load_method(method).execute(())
    return value


def operators(folder: Path) -> set[str]:
    plans = stored(folder).program.execution_plan
    return {operator.name for plan in plans for operator in plan.operators}


def test_the_manifest_describes_the_program(program: Program) -> None:
    manifest = Artifact.open(program.folder, check="full").manifest
    target = manifest.target
    assert (target.name, target.dtype, target.ffn_dtype) == ("executorch", "fp32", "fp32")
    assert target.custom_ops is program.custom_ops and target.prefill_chunk == CHUNK
    assert target.graphs == {"prefill": "model.pte", "decode": "model.pte"}
    assert target.weights is None and target.tensors == ()
    assert {"executorch", "torchao"} <= manifest.tools.keys()
    assert manifest.verification is not None and manifest.verification["passed"]


def test_signatures_name_inputs_and_outputs_in_the_methods_order(folder: Path, family: str) -> None:
    layers = depth(family)
    signatures = Artifact.open(folder).manifest.target.signatures
    shapes = {
        name: [(spec.name, spec.dtype, list(spec.shape)) for spec in (*one.inputs, *one.outputs)]
        for name, one in signatures.items()
    }
    assert shapes["prefill"] == [
        ("input_ids", "int64", [1, "T"]),
        ("position", "int64", [1]),
        ("score_weights", "float32", ["T"]),
        ("logit_rows", "int64", ["N"]),
        ("logits", "float32", [1, "N", VOCABULARY]),
        ("abs_sum", "float32", [layers, D_FF]),
        ("sq_sum", "float32", [layers, D_FF]),
    ]
    assert shapes["decode"] == [
        ("input_ids", "int64", [1, 1]),
        ("position", "int64", [1]),
        ("ffn_idx", "int32", [layers, "K"]),
        ("logits", "float32", [1, 1, VOCABULARY]),
    ]


def test_the_program_has_inputs_and_outputs_of_those_types(folder: Path) -> None:
    loaded = Runtime.get().load_program(folder / "model.pte")
    codes = {"float32": 6, "int64": 4, "int32": 3}  # torch's ScalarType
    for name, signature in Artifact.open(folder).manifest.target.signatures.items():
        meta = loaded.metadata(name)
        inputs = [meta.input_tensor_meta(i).dtype() for i in range(meta.num_inputs())]
        outputs = [meta.output_tensor_meta(i).dtype() for i in range(meta.num_outputs())]
        assert inputs == [codes[spec.dtype] for spec in signature.inputs]
        assert outputs == [codes[spec.dtype] for spec in signature.outputs]


def test_metadata_agrees_with_the_manifest(program: Program) -> None:
    path = program.folder
    manifest = Artifact.open(path).manifest
    got, dims = decode(constant(path, "get_metadata"), "model.pte"), manifest.model.dims
    for name in ("layers", "d_model", "d_ff", "heads", "kv_heads", "head_dim", "vocab_size"):
        assert got[name] == str(getattr(dims, name))
    for name in ("density", "mode", "fusion", "local", "prior", "lam", "tau", "sensitivity"):
        assert got[name] == str(getattr(manifest.selection, name))
    assert got["dense_layers"] == ",".join(map(str, manifest.selection.dense_layers))
    assert got["model"] == manifest.model.name and got["family"] == manifest.model.family
    assert got["activation"] == manifest.model.activation
    assert got["max_length"] == str(CONTEXT) and got["prefill_chunk"] == str(CHUNK)
    ids = (manifest.model.bos_token_id, *manifest.model.eos_token_ids)
    assert (got["bos_token_id"], got["eos_token_ids"]) == tuple(map(str, ids)) == ("0", "1")
    added = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    special = sorted(token["id"] for token in added if token["special"])
    assert special[:4] == [0, 1, 2, 3]
    assert got["special_token_ids"] == ",".join(map(str, special))
    assert got["recipe_digest"] == manifest.recipe_digest
    assert got["dtype"] == "fp32" and got["abi_version"] == "2"
    assert got["custom_ops"] == str(manifest.target.custom_ops).lower()


def test_the_prior_is_embedded_bit_by_bit(folder: Path) -> None:
    artifact = Artifact.open(folder)
    prior, loaded = artifact.prior(), Runtime.get().load_program(folder / "model.pte")
    embedded = {name for name in loaded.method_names if name.startswith("get_prior_")}
    assert embedded == {f"get_prior_{name}" for name in artifact.manifest.prior.statistics}
    assert loaded.method_names - embedded == {"prefill", "decode", "get_metadata"}
    for name, wanted in prior.items():
        got = constant(folder, f"get_prior_{name}").numpy()
        assert got.dtype == np.float32 and np.array_equal(got, wanted)


def weight_bytes(family: str, layers: int) -> int:
    """Parameters once, and a tied head again, which XNNPACK packs in its own form."""
    model = tiny_model(family, layers=layers)
    numbers = sum(
        parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values()
    )
    if model.config.tie_word_embeddings:
        numbers += model.get_output_embeddings().weight.numel()
    return 4 * numbers


def table_bytes(family: str) -> int:
    """Cosines and sines of the rotated channels, for each kind of layer that has its own."""
    model = tiny_model(family, layers=1)
    head_dim = caches(model, CONTEXT)[0][0].shape[-1]
    settings = getattr(model.config, "rope_parameters", None)
    if settings is None:  # learned positions
        return 0
    rotated = int(head_dim * settings.get("partial_rotary_factor", 1))
    return 4 * CONTEXT * rotated * (2 if family == "gemma3_text" else 1)


def require_stored_once(program: Program) -> None:
    file, priors = stored(program.folder), 4 * 4 * program.layers * D_FF
    constants = sum(len(buffer.storage) for buffer in file.program.constant_buffer)
    packed = sum(len(buffer) for buffer in file.named_data.buffers)
    once = weight_bytes(program.family, program.layers) + table_bytes(program.family) + priors
    assert once <= constants + packed <= 1.02 * once


def test_weights_are_stored_once(folder: Path, family: str) -> None:
    require_stored_once(Program(folder, family, depth(family), True))


def test_weights_of_a_portable_program_are_stored_once(portable: Program) -> None:
    require_stored_once(portable)


def test_the_portable_program_has_stock_operators_alone(portable: Program) -> None:
    namespaces = {name.partition("::")[0] for name in operators(portable.folder)}
    assert namespaces <= {"aten", "executorch_prim", "dim_order_ops"}
    content = (portable.folder / "model.pte").read_bytes()
    assert b"glass::" not in content and b"llama::" not in content


def test_the_native_program_has_our_operators(folder: Path, family: str) -> None:
    own = {name for name in operators(folder) if name.startswith("glass::")}
    plain = "plain_" if family in ("gpt_neox", "opt", "phi") else ""
    norms = {"glass::rms_norm", "glass::add_rms_norm"}
    if plain or "stablelm" in family:  # layer norms
        norms = set()
    ffns = {f"glass::{plain}dense_ffn", f"glass::{plain}sparse_ffn"}
    assert own == norms | ffns | {"glass::rotary_attention"}


def native_model(family: str) -> torch.nn.Module:
    return tiny_model(family, layers=depth(family))


def run(
    backend: ExecuTorchBackend,
    tokens: np.ndarray,
    position: int,
    weights: np.ndarray | None = None,
) -> PrefillResult:
    """Logits of all tokens, by as many calls as that takes."""
    scored = np.ones(len(tokens), np.float32) if weights is None else weights
    rows = np.split(np.arange(len(tokens)), range(LOGIT_ROWS, len(tokens), LOGIT_ROWS))
    results = [backend.prefill(tokens, position, scored, some) for some in rows]
    logits = np.concatenate([result.logits for result in results])
    return PrefillResult(logits, results[-1].statistics)


def eager_logits(family: str, tokens: np.ndarray = TOKENS) -> np.ndarray:
    return native_model(family)(torch.from_numpy(tokens)[None]).logits[0].numpy()


@pytest.mark.parametrize("cuts", [[32, 64], [1, 33, 34, 64]])
def test_prefill_in_chunks_of_any_length(
    backend: ExecuTorchBackend, family: str, cuts: list[int]
) -> None:
    ends = [*cuts, len(TOKENS)]
    parts = [
        run(backend, TOKENS[begin:end], begin).logits.copy()
        for begin, end in zip([0, *cuts], ends, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(parts), eager_logits(family), atol=2e-5)


def test_scores_of_chunks_add_up_to_those_of_one_call(
    backend: ExecuTorchBackend, family: str
) -> None:
    tokens, weights = TOKENS[:CHUNK], np.zeros(CHUNK, np.float32)
    weights[5:19] = 1
    whole = run(backend, tokens, 0, weights).statistics
    model = native_model(family)
    with score_sums(model, find_ffns(model)) as sums:
        model(torch.from_numpy(tokens[:19])[None])
        after = sums()
        model(torch.from_numpy(tokens[:5])[None])
        before = sums()
    assert whole.tokens == 14
    np.testing.assert_allclose(whole.abs_sum, after[0] - before[0], atol=1e-4)
    np.testing.assert_allclose(whole.sq_sum, after[1] - before[1], atol=1e-4)
    kept = whole.abs_sum.copy()
    parts = run(backend, tokens[:7], 0, weights[:7]).statistics
    parts.add(run(backend, tokens[7:], 7, weights[7:]).statistics)
    np.testing.assert_allclose(parts.abs_sum, kept, atol=1e-5)
    np.testing.assert_allclose(parts.sq_sum, after[1] - before[1], atol=1e-4)
    np.testing.assert_array_equal(whole.abs_sum, kept)  # results survive the next call


def test_only_the_wanted_logit_rows_come_out(backend: ExecuTorchBackend, family: str) -> None:
    ones, wanted = np.ones(CHUNK, np.float32), eager_logits(family)
    for rows in ([0, 7, 31], [4]):
        got = backend.prefill(TOKENS[:CHUNK], 0, ones, np.array(rows)).logits
        np.testing.assert_allclose(got, wanted[rows], atol=2e-5)
    none = backend.prefill(TOKENS[:CHUNK], 0, ones, np.array([], np.int64))
    assert none.logits.shape == (0, VOCABULARY) and none.statistics.abs_sum.any()
    with pytest.raises(GenerationError, match="logit_rows: got 9 rows, expected at most 8"):
        backend.prefill(TOKENS[:CHUNK], 0, ones, np.arange(9))
    np.testing.assert_allclose(backend.decode(int(TOKENS[32]), 32), wanted[32], atol=2e-5)


def test_dense_decode_continues_prefill_and_prefill_continues_decode(
    backend: ExecuTorchBackend, family: str
) -> None:
    wanted = eager_logits(family)
    run(backend, TOKENS[:10], 0)
    for position in range(10, 20):
        got = backend.decode(int(TOKENS[position]), position)
        np.testing.assert_allclose(got, wanted[position], atol=2e-5)
    np.testing.assert_allclose(run(backend, TOKENS[20:40], 20).logits, wanted[20:40], atol=2e-5)


def test_rewinding_overwrites_the_cache(backend: ExecuTorchBackend, family: str) -> None:
    run(backend, TOKENS[:CHUNK][::-1].copy(), 0)
    for position in range(CHUNK, CHUNK + 4):
        backend.decode(3, position)
    run(backend, TOKENS[:10], 0)
    got = backend.decode(int(TOKENS[10]), 10)
    np.testing.assert_allclose(got, eager_logits(family)[10], atol=2e-5)


def choice(kept: int, layers: int = LAYERS) -> np.ndarray:
    rng = np.random.default_rng(kept)
    rows = [np.sort(rng.permutation(D_FF)[:kept]) for _ in range(layers)]
    return np.stack(rows).astype(np.int32)


@pytest.mark.parametrize("kept", [1, 20, D_FF])
def test_sparse_decode_is_the_eager_model_with_other_neurons_masked(
    backend: ExecuTorchBackend, family: str, kept: int
) -> None:
    model, indices = native_model(family), choice(kept, depth(family))
    with masked(model, find_ffns(model), indices, first=10):
        wanted = model(torch.from_numpy(TOKENS)[None]).logits[0].numpy()
    run(backend, TOKENS[:10], 0)
    backend.select(indices)
    for position in range(10, 30):
        got = backend.decode(int(TOKENS[position]), position)
        np.testing.assert_allclose(got, wanted[position], atol=2e-5)


def test_a_choice_is_copied_and_none_is_dense_again(
    backend: ExecuTorchBackend, family: str
) -> None:
    run(backend, TOKENS[:10], 0)
    indices = choice(5, depth(family))
    backend.select(indices)
    first = backend.decode(int(TOKENS[10]), 10).copy()
    indices[:] = indices // 2
    np.testing.assert_array_equal(backend.decode(int(TOKENS[10]), 10), first)
    backend.select(None)
    got = backend.decode(int(TOKENS[10]), 10)
    np.testing.assert_allclose(got, eager_logits(family)[10], atol=2e-5)


SCRIPT = """
import json, sys
import torch
from executorch.runtime import Runtime

results = []
for path, prompt, neurons, count in json.loads(sys.argv[1]):
    program = Runtime.get().load_program(path)
    prefill, decode = program.load_method("prefill"), program.load_method("decode")
    inputs = torch.tensor([prompt]), torch.tensor([0]), torch.ones(len(prompt))
    logits, *_ = prefill.execute((*inputs, torch.tensor([len(prompt) - 1])))
    tokens, chosen = [int(logits.argmax())], torch.tensor(neurons, dtype=torch.int32)
    for position in range(len(prompt), len(prompt) + count - 1):
        step = torch.tensor([[tokens[-1]]]), torch.tensor([position]), chosen
        tokens.append(int(decode.execute(step)[0].argmax()))
    results.append(tokens)
loaded = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "/libglass" in line}
ours = [name for name in sys.modules if name.startswith("glass_export")]
print(json.dumps({"tokens": results, "ours": [*ours, *loaded]}))
"""


def stock_tokens(jobs: list[tuple[Path, np.ndarray]], count: int) -> list[list[int]]:
    """Greedy tokens after TOKENS[:10] by an ExecuTorch that knows nothing of this project."""
    words = [
        (str(folder / "model.pte"), TOKENS[:10].tolist(), indices.tolist(), count)
        for folder, indices in jobs
    ]
    command = [sys.executable, "-c", SCRIPT, json.dumps(words)]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=jobs[0][0])
    assert outcome.returncode == 0, outcome.stderr
    result = json.loads(outcome.stdout.splitlines()[-1])
    assert result["ours"] == []
    tokens: list[list[int]] = result["tokens"]
    return tokens


def greedy(backend: ExecuTorchBackend, indices: np.ndarray | None, count: int) -> list[int]:
    tokens = [int(run(backend, TOKENS[:10], 0).logits[-1].argmax())]
    backend.select(indices)
    for position in range(10, 10 + count - 1):
        tokens.append(int(backend.decode(tokens[-1], position).argmax()))
    return tokens


def eager_greedy(family: str, indices: np.ndarray, count: int) -> list[int]:
    model, tokens = tiny_model(family, layers=len(indices)), TOKENS[:10].tolist()
    with masked(model, find_ffns(model), indices, first=10):
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[10:]


@pytest.mark.parametrize("family", every(*STOCK))
def test_portable_programs_run_on_stock_executorch_as_on_ours(
    exported: Exported, family: str
) -> None:
    folder = exported(family, "executorch", PORTABLE, layers=SHALLOW[family])
    backend = ExecuTorchBackend(Artifact.open(folder))
    jobs, wanted = [], []
    for kept in (20, D_FF):
        indices = choice(kept, SHALLOW[family])
        jobs.append((folder, indices))
        wanted.append(eager_greedy(family, indices, 20))
        assert greedy(backend, indices, 20) == wanted[-1]
    assert greedy(backend, None, 20) == wanted[-1]
    backend.close()
    assert stock_tokens(jobs, 20) == wanted
    assert wanted[0] != wanted[1]


def test_a_program_whose_methods_do_not_share_the_caches_is_not_delivered(
    checkpoint: Exported,
    recipe_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def apart(**options: Any) -> MemoryPlanningPass:
        assert options["share_mutable_buffers"]
        return MemoryPlanningPass(**{**options, "share_mutable_buffers": False})

    monkeypatch.setattr(program_module, "MemoryPlanningPass", apart)
    with pytest.raises(VerificationError, match=r"(greedy tokens|sparse logits): got"):
        export(recipe_of(checkpoint("llama", 1), "target.name=executorch"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".out.lock"] == []


@pytest.mark.parametrize("custom_ops", [True, False])
def test_an_operator_without_translation_is_named(tmp_path: Path, custom_ops: bool) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.erfinv(x)

    model = tiny_model("llama", layers=1)
    model.model.embed_tokens = torch.nn.Sequential(model.model.embed_tokens, Odd())
    sites = find_ffns(model)
    prefill, decode_graph = (
        default_passes()(graph).graph for graph in capture(model, sites, max_length=CONTEXT)
    )
    source = LoweringInput(
        prefill=prefill,
        decode=decode_graph,
        sites=tuple(sites),
        prior={},
        prefill_chunk=CHUNK,
        options=TargetRecipe(name="executorch", custom_ops=custom_ops),
        metadata={"vocab_size": VOCABULARY},
    )
    message = r"prefill: operator aten\.erfinv.*no ExecuTorch translation"
    with pytest.raises(LoweringError, match=message):
        load_target("executorch").lower(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
