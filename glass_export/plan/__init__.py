"""What an export will need and give, before any of its work: from config.json and file headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from glass_export import gguf_model, hf_folder
from glass_export.calibrate.team import neighbours
from glass_export.errors import ResourceError
from glass_export.families import find_ffns
from glass_export.gguf_file import GgufFile
from glass_export.nn.streamed import streamable
from glass_export.package import check_context
from glass_export.paths import cache_dir
from glass_export.plan.costs import Costs, Stage
from glass_export.plan.machine import available_memory, free_disk, same_disk
from glass_export.recipe import Recipe
from glass_export.sources import locate
from glass_export.spec import EXPERT_WEIGHTS, FfnSite
from glass_export.targets import load_target
from glass_export.targets.base import ModelShapes

__all__ = ["Plan", "make_plan"]

_HEADROOM = 0.9
"""Share of the available memory that an export may take."""
_MOST_SHOWN = 3
_TOKENIZER = 4 << 20
_STORED_BYTES = 2
"""Of a weight in a checkpoint that is not on this machine yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes in bytes, times in seconds.

    ``parts``: of the artifact; ``streamed``: weights are read each time they are used; ``stages``:
    peak memory and time of each; ``scratch``: needed in the cache directory while the export runs;
    ``memory``: available, None if unknown; ``disk``: free at the output; ``problems``: why the
    export cannot be made here, none if it can.
    """

    model: str
    target: str
    dtype: str
    custom_ops: bool
    weights: int
    checkpoint: int
    parts: Mapping[str, int]
    streamed: bool
    stages: Mapping[str, Stage]
    scratch: int
    memory: int | None
    disk: int
    problems: tuple[str, ...]

    @property
    def artifact(self) -> int:
        """Bytes of the artifact."""
        return sum(self.parts.values())

    @property
    def peak_memory(self) -> int:
        """Of the stage that needs most."""
        return max((stage.memory for stage in self.stages.values()), default=0)

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(stage.seconds for stage in self.stages.values())

    def require(self) -> None:
        """Raise ResourceError, listing all reasons, unless the export can be made here."""
        if self.problems:
            reasons = "".join(f"\n  - {problem}" for problem in self.problems)
            raise ResourceError(f"model {self.model}: it cannot be exported here:{reasons}")


def make_plan(
    recipe: Recipe, output: Path, *, streamed: bool | None = None, model: Path | None = None
) -> Plan:
    """Plan the export of a recipe into ``output``. No weight is loaded.

    Args:
        recipe: What is to be exported.
        output: The artifact's directory.
        streamed: Whether weights are read when they are used; None: if they do not fit otherwise.
        model: The model's folder or file; None: the recipe's sources are tried.

    Raises:
        SourceError: the model's description cannot be found or read.
        RecipeError: the target has no such form.
        UnsupportedModelError: its configuration is not one that can be exported.
        UnsupportedModelError: also where the target cannot run a mixture of experts.
        LoweringError: its sizes are not those of a form that the target has.
    """
    target, options = load_target(recipe.target.name), recipe.target
    target.check(options)
    path = model or locate(recipe.model)
    empty = _skeleton(path)
    check_context(recipe, empty)
    sites = find_ffns(empty)
    shapes = model_shapes(empty, sites)
    checkpoint = _checkpoint_bytes(path) or _STORED_BYTES * shapes.weights
    weights = target.weight_bytes(shapes, options)
    plan = Plan(
        model=recipe.model.name,
        target=options.name,
        dtype=options.dtype,
        custom_ops=options.custom_ops,
        weights=shapes.weights,
        checkpoint=checkpoint,
        parts={**weights, **_other_parts(recipe, shapes, path)},
        streamed=bool(streamed),
        stages={},
        scratch=0,
        memory=_own_memory(),
        disk=free_disk(output),
        problems=_misfits(path, empty),
    )
    costs = Costs(
        shapes=shapes,
        recipe=recipe,
        artifact=sum(weights.values()),
        checkpoint=checkpoint,
        threads=torch.get_num_threads(),
    )
    refused = _no_streaming(path, recipe, shapes)
    return _with_disk(_with_memory(plan, costs, streamed, refused), costs, output)


def _own_memory() -> int | None:
    """Available memory; an equal part of it where several processes calibrate together."""
    free = available_memory()
    return None if free is None else free // neighbours()


def model_shapes(empty: PreTrainedModel, sites: list[FfnSite]) -> ModelShapes:
    """Sizes of a model's weights; they may be on the meta device."""
    inside = {id(weight) for site in sites for weight in _ffn_weights(empty, site)}
    matrices = {id(layer.weight): layer.weight for layer in streamable(empty)}
    outside = {key: weight for key, weight in matrices.items() if key not in inside}
    counted = inside | outside.keys()
    config, head = empty.config, empty.get_output_embeddings().weight
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return ModelShapes(
        layers=config.num_hidden_layers,
        rows=sum(site.rows for site in sites),
        routed=any(site.experts for site in sites),
        d_model=sites[0].d_model,
        d_ff=sites[0].d_ff,
        gated=sites[0].gate is not None,
        vocab_size=int(head.shape[0]),
        cache_width=groups * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        matrices=tuple((int(w.shape[0]), int(w.shape[1])) for w in outside.values()),
        tied=head is empty.get_input_embeddings().get_parameter("weight"),
        others=sum(p.numel() for p in empty.parameters() if id(p) not in counted),
    )


def _ffn_weights(model: PreTrainedModel, site: FfnSite) -> list[nn.Parameter]:
    """The matrices of a site."""
    if site.experts:
        return [model.get_submodule(site.path).get_parameter(name) for name in EXPERT_WEIGHTS]
    return [model.get_submodule(path).get_parameter("weight") for path in site.linears]


def _skeleton(path: Path) -> PreTrainedModel:
    config = (
        gguf_model.read_config(GgufFile.open(path))
        if path.is_file()
        else hf_folder.read_config(path)
    )
    empty = hf_folder.skeleton(path, config)
    empty.tie_weights()
    return empty


def _checkpoint_bytes(path: Path) -> int:
    """Bytes of the weights on this machine; 0 when they are not here yet."""
    files = [path] if path.is_file() else [*path.glob("*.safetensors")]
    return sum(file.stat().st_size for file in files)


def _misfits(path: Path, empty: PreTrainedModel) -> tuple[str, ...]:
    """Weights whose shape in the files' headers is not the configuration's."""
    if path.is_file() or not _checkpoint_bytes(path):
        return ()
    stored, expected = hf_folder.stored_weights(path), empty.state_dict()
    wrong = (
        f"{name}: the file has {list(stored[name].shape)}, config.json wants {list(tensor.shape)}; "
        "download the model again"
        for name, tensor in expected.items()
        if name in stored and stored[name].shape != tuple(tensor.shape)
    )
    return tuple(islice(wrong, _MOST_SHOWN))


def _other_parts(recipe: Recipe, shapes: ModelShapes, path: Path) -> dict[str, int]:
    """Everything of an artifact but FFNs, linears and embeddings."""
    scores = shapes.rows * shapes.d_ff
    tokenizer = path / "tokenizer.json"
    tables = 4 * recipe.export.max_length * shapes.cache_width
    found = {
        "norms, biases, rotary tables": 4 * shapes.others + tables,
        "prior": 2 * 4 * 4 * scores,  # in a file of its own and in the graphs
        "tokenizer": tokenizer.stat().st_size if tokenizer.is_file() else _TOKENIZER,
        "graphs and manifest": shapes.layers * (48 << 10),
    }
    if recipe.verify.enabled:
        found["verification"] = recipe.verify.prompts * 4 * (3 * scores + 3 * shapes.vocab_size)
    return found


def _no_streaming(path: Path, recipe: Recipe, shapes: ModelShapes) -> str | None:
    """Why weights cannot be read when they are used; None: they can."""
    if shapes.routed:
        return "the weights of experts cannot be streamed; use a machine with more memory"
    if path.is_file():
        return "the weights of a GGUF file cannot be streamed; give the safetensors checkpoint"
    if recipe.target.name == "executorch" and not recipe.target.custom_ops:
        return (
            "weights cannot be streamed into a program of stock operators; leave "
            "--no-custom-ops out"
        )
    if recipe.calibration.device not in ("auto", "cpu"):
        return "weights can be streamed to the processor alone; use calibration.device=cpu"
    return None


def _with_memory(plan: Plan, costs: Costs, wanted: bool | None, refused: str | None) -> Plan:
    """The plan with its stages, and streamed if that is wanted or needed, and possible."""
    room = None if plan.memory is None else int(_HEADROOM * plan.memory)

    def fits(candidate: Plan) -> bool:
        return room is None or candidate.peak_memory <= room

    whole, streamed = (
        replace(plan, streamed=kind, stages=costs.stages(streamed=kind)) for kind in (False, True)
    )
    if wanted and refused:
        return replace(streamed, problems=(*plan.problems, refused))
    alone = wanted is not None or refused is not None or fits(whole)
    chosen = (streamed if wanted else whole) if alone else streamed
    if fits(chosen):
        return chosen
    name, stage = max(chosen.stages.items(), key=lambda item: item[1].memory)
    advice = refused or (
        "leave --no-stream out" if wanted is False and fits(streamed) else "use a smaller model"
    )
    problem = (
        f"memory: stage {name!r} needs {gigabytes(stage.memory)}, {gigabytes(plan.memory or 0)} "
        f"are available, of which {_HEADROOM:.0%} may be used; free some, or {advice}"
    )
    return replace(chosen, problems=(*chosen.problems, problem))


def _with_disk(plan: Plan, costs: Costs, output: Path) -> Plan:
    scratch = costs.scratch if plan.streamed else 0
    shared = same_disk(output, cache_dir())
    needs = [(output, plan.artifact + (scratch if shared else 0), "the artifact")]
    needs += [] if shared or not scratch else [(cache_dir(), scratch, "rounded weights")]
    problems = [
        f"disk: {folder} needs about {gigabytes(size)} for {what}, {gigabytes(free)} are free; "
        "free some space, or choose another --output or GLASS_EXPORT_CACHE"
        for folder, size, what in needs
        if (free := free_disk(folder)) < size
    ]
    return replace(plan, scratch=scratch, problems=(*plan.problems, *problems))


def gigabytes(size: float) -> str:
    """``1.53 GB``; of less than a tenth, MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
