"""The whole story of an export."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from glass_export import package
from glass_export.artifact import PRIOR_NAME, ArtifactWriter, SigningKey
from glass_export.calibrate import dismiss_helpers, help_calibrate
from glass_export.calibrate.team import current
from glass_export.capture import capture
from glass_export.families import find_ffns
from glass_export.fusion import Priors, select_neurons
from glass_export.load import LoadedModel, load_model, release_memory
from glass_export.log import logger
from glass_export.manifest import Manifest
from glass_export.passes import default_passes
from glass_export.plan import make_plan
from glass_export.recipe import Recipe
from glass_export.schema import to_data
from glass_export.search import Settled, settle
from glass_export.selection import default_profiles
from glass_export.sources import FetchedModel
from glass_export.spec import FfnSite, layer_budgets
from glass_export.targets import load_target
from glass_export.targets.base import LoweringInput, Target
from glass_export.verify import require_passed, verify_artifact
from glass_export.verify.eager import PROMPTS, make_reference
from glass_export.verify.kept import kept_reference
from glass_export.verify.process import verify_in_process
from glass_export.verify.reference import REFERENCE_NAME, Reference


def export(
    recipe: Recipe,
    output: Path,
    *,
    streamed: bool | None = None,
    fetched: FetchedModel | None = None,
    key: SigningKey | None = None,
) -> Manifest:
    """Export a model into the artifact directory ``output``, which is replaced as a whole.

    Args:
        recipe: What is exported, and how.
        output: The artifact's directory.
        streamed: Read weights each time that they are used, see load.load_model; None: if they do
            not fit in memory.
        fetched: The model, if it is here already; None: the recipe's sources are tried.
        key: Signs the artifact; None leaves it unsigned.

    Raises:
        ResourceError: the export does not fit on this machine.
        GlassError: a stage failed; ``output`` is as it was before.
    """
    target = load_target(recipe.target.name)
    with ArtifactWriter(output, key=key) as writer:
        plan = make_plan(recipe, output, streamed=streamed, model=fetched.path if fetched else None)
        plan.require()
        writer.require(plan.artifact)
        current().share(plan.streamed)
        if plan.streamed:
            logger.warning(
                "%s: weights are read each time that they are used; the export takes longer",
                recipe.model.name,
            )
        manifest = _build(recipe, fetched, target, writer, streamed=plan.streamed)
        release_memory()
        if recipe.verify.enabled:
            writer.seal(manifest)
            report = (
                verify_in_process(writer.path)
                if plan.streamed
                else verify_artifact(writer.path, check_hashes=False)
            )
            require_passed(report)
            manifest = replace(manifest, verification=report)
        return writer.commit(manifest)


def help_export(recipe: Recipe) -> None:
    """Take part in an export that another process of the team makes: calibrate with it.

    Raises:
        GlassError: the model cannot be loaded or measured.
    """
    loaded = load_model(recipe.model, streamed=current().share(False))
    help_calibrate(loaded.model, find_ffns(loaded.model), recipe.calibration.device)


def _build(
    recipe: Recipe,
    fetched: FetchedModel | None,
    target: Target,
    writer: ArtifactWriter,
    *,
    streamed: bool,
) -> Manifest:
    """All stages up to the artifact's files; the model is freed on return."""
    loaded = load_model(fetched or recipe.model, streamed=streamed)
    model, sites = loaded.model, find_ffns(loaded.model)

    settled = settle(loaded, sites, recipe.calibration, recipe.selection)
    dismiss_helpers()
    settled.prior.save(writer.path / PRIOR_NAME)
    if recipe.verify.enabled:
        _reference(recipe, target, loaded, sites, settled).save(writer.path / REFERENCE_NAME)

    graphs = capture(model, sites, max_length=recipe.export.max_length)
    prefill, decode = (default_passes()(graph).graph for graph in graphs)
    source = LoweringInput(
        prefill=prefill,
        decode=decode,
        sites=tuple(sites),
        prior=settled.prior.statistics,
        prefill_chunk=recipe.export.prefill_chunk,
        options=recipe.target,
        metadata=package.program_metadata(recipe, settled.selection, loaded, sites),
    )
    lowered = target.lower(source, writer.path)
    package.write_tokenizer(loaded, writer.path)
    manifest = package.make_manifest(recipe, loaded, sites, settled.prior, lowered, target.TOOLS)
    chosen = settled.selection
    return replace(
        manifest, selection=chosen, search=settled.search, profiles=default_profiles(chosen)
    )


def _reference(
    recipe: Recipe, target: Target, loaded: LoadedModel, sites: list[FfnSite], settled: Settled
) -> Reference:
    """What the eager model computes in the number format of the target."""
    dims, selection = package.model_dims(loaded, sites), settled.selection
    texts = PROMPTS[: recipe.verify.prompts]
    ranked = Priors(settled.prior.statistics, routed=dims.expert_rows > 0)
    budgets = layer_budgets(recipe.verify.density, dims.d_ff, dims.rows, selection.dense_layers)

    def make() -> Reference:
        with target.numerics(loaded.model, sites, recipe.target) as smooth:
            return make_reference(
                loaded.model,
                sites,
                loaded.tokenizer.encode,
                lambda sums: select_neurons(sums, ranked, selection, budgets),
                texts=texts,
                tokens=recipe.verify.tokens,
                max_length=recipe.export.max_length,
                tolerance=recipe.verify.tolerance,
                smooth=smooth,
            )

    prior = hashlib.sha256(b"".join(x.tobytes() for x in settled.prior.statistics.values()))
    key = {
        "model_sha256": loaded.source.sha256,
        "sites": [to_data(site) for site in sites],
        "prompts": [loaded.tokenizer.encode(text) for text in texts],
        "prior": prior.hexdigest(),
        "selection": to_data(selection),
        "target": to_data(recipe.target),
        "verify": to_data(recipe.verify),
        "max_length": recipe.export.max_length,
    }
    return kept_reference(key, make)
