"""Plans: sizes as exports have them, what fits and what does not, and no weight read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import tiny_tokenizer
from transformers import Qwen2Config
from typer.testing import CliRunner

from glass_export import hf_folder, pipeline, plan
from glass_export.artifact import Artifact
from glass_export.cli.app import app
from glass_export.errors import LoweringError, ResourceError
from glass_export.plan import machine, make_plan
from glass_export.recipe import Recipe, resolve

Exported = Callable[..., Path]
FORMS = [
    ("onnx", "int4", "true"),
    ("onnx", "int8", "false"),
    ("executorch", "int4", "true"),
]


def header(shapes: dict[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """The header of a safetensors file of bfloat16 tensors, and the bytes of their data."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text, end


@pytest.fixture(scope="session")
def seven_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the shape of Qwen2.5-7B whose files are holes but for their headers."""
    folder = tmp_path_factory.mktemp("7b")
    config = Qwen2Config(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, vocab_size=152064, max_position_embeddings=32768,
        tie_word_embeddings=False,
    )  # fmt: skip
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    empty = hf_folder.skeleton(folder, config)
    content, size = header({name: tuple(t.shape) for name, t in empty.state_dict().items()})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(content)
        file.truncate(len(content) + size)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_those_of_the_export(
    exported: Exported, checkpoint: Callable[..., Path], recipe_of: Callable[..., Recipe],
    form: tuple[str, str, str], tmp_path: Path,
) -> None:  # fmt: skip
    name, dtype, custom_ops = form
    overrides = (f"target.dtype={dtype}", f"target.custom_ops={custom_ops}")
    manifest = Artifact.open(exported("qwen2", name, *overrides)).manifest
    recipe = recipe_of(checkpoint("qwen2"), f"target.name={name}", *overrides)
    made = make_plan(recipe, tmp_path / "out")
    planned = made.parts["FFNs"] + made.parts["linears and embeddings"]
    if name == "onnx":
        matrices = ("ffn", "proj", "embed", "rows", "integers", "scales")
        views = {".rows"} if custom_ops == "false" and dtype != "fp32" else set()
        stored = sum(
            t.nbytes
            for t in manifest.target.tensors
            if any(word in t.name for word in matrices) and not t.name.endswith((".bias", *views))
        )
        assert planned == stored
    else:
        program = next(f.size for f in manifest.files if f.path == "model.pte")
        others = made.parts["norms, biases, rotary tables"] + made.parts["prior"]
        assert planned < program < planned + others + (400 << 10)
    assert made.problems == () and not made.streamed


def test_a_model_that_memory_cannot_hold_is_streamed(
    seven_billion: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = resolve(str(seven_billion), ["target.dtype=int4", "target.custom_ops=true"])
    monkeypatch.setattr(plan, "free_disk", lambda _: 10**12)
    monkeypatch.setattr(plan, "available_memory", lambda: 80 << 30)
    whole = make_plan(recipe, tmp_path)
    assert not whole.streamed and whole.peak_memory > 2 * 4 * 7.6e9 and not whole.problems
    monkeypatch.setattr(plan, "available_memory", lambda: 16 << 30)
    made = make_plan(recipe, tmp_path)
    assert made.streamed and not made.problems
    assert made.weights == pytest.approx(7.616e9, rel=1e-3)
    assert 4.2e9 < made.artifact < 4.5e9
    # The bound that a streamed export is held to.
    layer = 4 * (3 * 3584 * 18944 + 2 * 3584 * (3584 + 512))
    assert made.peak_memory < 1.6 * max(made.artifact, 4 * layer)
    assert made.seconds > whole.seconds > 0


def test_what_cannot_fit_is_refused_with_all_reasons(
    seven_billion: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plan, "available_memory", lambda: 2 << 30)
    monkeypatch.setattr(plan, "free_disk", lambda _: 1 << 30)
    monkeypatch.setattr(plan, "cache_dir", lambda: tmp_path)
    options = ["--target", "executorch", "--dtype", "int4", "--output", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, ["plan", str(seven_billion), *options, "--json"])
    found = json.loads(outcome.stdout)
    assert isinstance(outcome.exception, ResourceError) and outcome.exception.exit_code == 1
    memory, disk = found["problems"]
    assert "memory: stage " in memory and "2.15 GB are available" in memory
    assert disk.startswith("disk: ") and "1.07 GB are free" in disk
    recipe = resolve(str(seven_billion), ["target.name=executorch", "target.dtype=int4"])
    with pytest.raises(ResourceError, match="cannot be exported here"):
        pipeline.export(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["target.name=executorch", "target.custom_ops=false"], "leave --no-custom-ops out"),
        (["calibration.device=cuda"], "use calibration.device=cpu"),
    ],
)
def test_forms_that_cannot_be_streamed(
    seven_billion: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    overrides: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(plan, "free_disk", lambda _: 10**12)
    monkeypatch.setattr(plan, "available_memory", lambda: 16 << 30)
    made = make_plan(resolve(str(seven_billion), overrides), tmp_path)
    assert not made.streamed and message in made.problems[0]
    recipe = resolve(str(seven_billion), overrides)
    assert message in make_plan(recipe, tmp_path, streamed=True).problems[0]


def test_widths_that_a_form_has_not_and_headers_that_do_not_fit(
    checkpoint: Callable[..., Path], recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    for file in checkpoint("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    with pytest.raises(LoweringError, match="multiple of 32"):
        make_plan(recipe_of(tmp_path, "target.dtype=int4"), tmp_path / "out")
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"][:32].clone()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    made = make_plan(recipe_of(tmp_path), tmp_path / "out")
    assert made.problems == (
        "model.norm.weight: the file has [32], config.json wants [64]; download the model again",
    )


def test_a_plan_is_shown(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    options = [
        "--dtype",
        "int4",
        "--output",
        str(tmp_path / "out"),
        "--set",
        "export.max_length=64",
    ]
    outcome = CliRunner().invoke(app, ["plan", str(checkpoint("llama")), *options])
    assert outcome.exit_code == 0, outcome.output
    for word in ("int4, stock operators", "FFNs", "peak memory", "disk needed", "held in memory"):
        assert word in outcome.stdout


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:   4000000 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", meminfo)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.available_memory() == 4000000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert machine.available_memory() == 4000000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert machine.available_memory() == 4000
