"""Put everything around the graphs into the artifact directory."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from glass_export.errors import RecipeError
from glass_export.load import LoadedModel
from glass_export.manifest import SCHEMA_VERSION, Manifest, ModelInfo, PriorInfo, TargetInfo
from glass_export.nn import rotary
from glass_export.prior import Prior
from glass_export.recipe import Recipe, SelectionRecipe
from glass_export.schema import to_data
from glass_export.spec import FfnSite, ModelDims

_TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
_DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_TOOLS = ("glass-export", "torch", "transformers", "numpy")


def model_dims(loaded: LoadedModel, sites: list[FfnSite]) -> ModelDims:
    """Sizes of a model, from its configuration and its FFN sites."""
    config = loaded.model.config
    heads = config.num_attention_heads
    routed = any(site.experts for site in sites)
    return ModelDims(
        layers=config.num_hidden_layers,
        d_model=sites[0].d_model,
        d_ff=sites[0].d_ff,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocab_size=loaded.model.get_output_embeddings().weight.shape[0],
        expert_rows=sum(site.rows for site in sites) if routed else 0,
    )


def check_context(recipe: Recipe, model: PreTrainedModel) -> None:
    """Whether the model can have the context that the recipe asks for.

    Raises:
        RecipeError: it was made for a shorter one.
        UnsupportedModelError: see nn.rotary.check_context.
    """
    most = getattr(model.config, "max_position_embeddings", None)
    if most and recipe.export.max_length > most:
        raise RecipeError(
            f"export.max_length: got {recipe.export.max_length}, expected at most {most}, the "
            f"context of {recipe.model.name}"
        )
    rotary.check_context(model, recipe.export.max_length)


def null_prompt(loaded: LoadedModel) -> dict[str, Any]:
    """Where text written from nothing starts and stops: at a document's end, not a turn's."""
    ids = map(loaded.tokenizer.convert_tokens_to_ids, _DOCUMENT_ENDS)
    known = (i for i in ids if isinstance(i, int) and i != loaded.tokenizer.unk_token_id)
    end = next(known, loaded.eos_token_ids[-1])
    start = loaded.bos_token_id if loaded.bos_token_id is not None else end
    return {"prefix": (start,), "stop_ids": (end,)}


def template_prompt(loaded: LoadedModel) -> dict[str, Any]:
    """Where text starts that is written from a chat template alone, both question and answer: at
    the place of a user's first words. It stops as null text does.

    Raises:
        RecipeError: the tokenizer has no chat template, or no words of a user appear in it.
    """
    before, _ = _around_words(loaded)
    prefix = tuple(loaded.tokenizer.encode(before, add_special_tokens=False))
    if not prefix:
        raise RecipeError(
            "prior text 'template': the chat template does not put a user's words behind any of "
            "its own; use 'null', text from nothing"
        )
    return {"prefix": prefix, "stop_ids": null_prompt(loaded)["stop_ids"]}


def answer_turn(loaded: LoadedModel) -> tuple[int, ...]:
    """What a chat template writes between a user's words and the answer; as template_prompt."""
    _, after = _around_words(loaded)
    return tuple(loaded.tokenizer.encode(after, add_special_tokens=False))


def _around_words(loaded: LoadedModel) -> tuple[str, str]:
    """The chat template's text before and after a user's only words."""
    tokenizer, mark = loaded.tokenizer, "\ufdd0"  # a noncharacter: no template contains it
    if not tokenizer.chat_template:
        raise RecipeError(
            "prior text 'template': the model has no chat template; use 'null', text from nothing"
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
    )
    before, found, after = str(text).partition(mark)
    if not found:
        raise RecipeError(
            "prior text 'template': the chat template does not show a user's words; use 'null', "
            "text from nothing"
        )
    return before, after


def write_tokenizer(loaded: LoadedModel, folder: Path) -> None:
    """tokenizer.json, its configuration, the chat template and generation_config.json."""
    loaded.tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        if path.suffix in (".json", ".jinja", ".model") and path.name not in _TOKENIZER_FILES:
            path.unlink()
    generation = {
        "bos_token_id": loaded.bos_token_id,
        "eos_token_id": list(loaded.eos_token_ids),
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


def program_metadata(
    recipe: Recipe, selection: SelectionRecipe, loaded: LoadedModel, sites: list[FfnSite]
) -> dict[str, object]:
    """What a program file that stands alone says about the model; see runtime.program_metadata.

    ``selection``: the artifact's defaults.
    """
    added = loaded.tokenizer.added_tokens_decoder
    return {
        "model": recipe.model.name,
        "family": loaded.model.config.model_type,
        **asdict(model_dims(loaded, sites)),
        "activation": sites[0].activation,
        "max_length": recipe.export.max_length,
        "prefill_chunk": recipe.export.prefill_chunk,
        "bos_token_id": loaded.bos_token_id,
        "eos_token_ids": loaded.eos_token_ids,
        "special_token_ids": sorted(index for index, token in added.items() if token.special),
        "recipe_digest": recipe.digest(),
        **asdict(selection),
    }


def make_manifest(
    recipe: Recipe,
    loaded: LoadedModel,
    sites: list[FfnSite],
    prior: Prior,
    target: TargetInfo,
    tools: tuple[str, ...],
) -> Manifest:
    """The manifest without its file list and verification report. ``tools``: the target's own."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelInfo(
            name=recipe.model.name,
            family=loaded.model.config.model_type,
            source=loaded.source,
            dims=model_dims(loaded, sites),
            activation=sites[0].activation,
            max_length=recipe.export.max_length,
            bos_token_id=loaded.bos_token_id,
            eos_token_ids=loaded.eos_token_ids,
        ),
        target=target,
        selection=recipe.selection,
        prior=PriorInfo(
            statistics=tuple(prior.statistics),
            tokens=prior.tokens,
            seed=recipe.calibration.seed,
            temperature=recipe.calibration.temperature,
            text=prior.text,
        ),
        recipe=to_data(recipe.recorded()),
        recipe_digest=recipe.digest(),
        tools={name: metadata.version(name) for name in (*_TOOLS, *tools)},
        verification=None,
        files=(),
    )
