"""Layers that keep different numbers of neurons, on artifacts of every form.

Legend: L layers, F FFN width, K the largest number of kept neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import D_FF, VOCABULARY, tiny_model

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError
from glass_export.families import find_ffns
from glass_export.recipe import TargetRecipe
from glass_export.runtime import Session
from glass_export.runtime.base import Backend, IndexArray
from glass_export.runtime.onnxruntime import OnnxRuntimeBackend
from glass_export.targets import load_target
from glass_export.verify.eager import masked
from glass_export.verify.reference import logit_error

Exported = Callable[..., Path]
LAYERS = 2
FORMS = {
    f"{target} {dtype}{' with our operators' if custom_ops else ''}": TargetRecipe(
        name=target, dtype=dtype, custom_ops=custom_ops
    )
    for target, dtype, custom_ops in (
        ("onnx", "fp32", False),
        ("onnx", "int8", False),
        ("onnx", "int4", False),
        ("onnx", "fp32", True),
        ("onnx", "int4", True),
        ("executorch", "fp32", True),
        ("executorch", "int4", True),
        ("executorch", "fp32", False),
    )
}
PROMPT = 6
TOKENS = np.random.default_rng(0).integers(2, VOCABULARY, PROMPT + 4)


def choice(*kept: int) -> IndexArray:
    """Random neurons int32 [L,K]: so many in each layer, then padding."""
    rng = np.random.default_rng(kept)
    rows = np.full((len(kept), max(kept)), -1, np.int32)
    for row, count in zip(rows, kept, strict=True):
        row[:count] = np.sort(rng.permutation(D_FF)[:count])
    return rows


FULL_AND_SMALL, SMALL_AND_FULL, EQUAL = choice(D_FF, 5), choice(1, D_FF), choice(20, 20)
WIDER_THAN_NEEDED = np.pad(choice(7, 11), ((0, 0), (0, 9)), constant_values=-1)


@pytest.fixture(params=FORMS)
def options(request: pytest.FixtureRequest) -> TargetRecipe:
    return FORMS[request.param]


@pytest.fixture
def artifact(exported: Exported, options: TargetRecipe) -> Artifact:
    form = f"target.dtype={options.dtype}", f"target.custom_ops={str(options.custom_ops).lower()}"
    return Artifact.open(exported("llama", options.name, *form, layers=LAYERS))


@pytest.fixture
def backend(artifact: Artifact) -> Iterator[Backend]:
    with Session.open(artifact.path) as session:
        yield session.backend


def decoded(backend: Backend, indices: IndexArray | None) -> np.ndarray:
    """Logits [N,V] of the tokens behind the prompt, decoded through these neurons."""
    backend.prefill(TOKENS[:PROMPT], 0, np.ones(PROMPT, np.float32), np.array([PROMPT - 1]))
    backend.select(indices)
    return np.stack(
        [backend.decode(int(TOKENS[at]), at).copy() for at in range(PROMPT, len(TOKENS))]
    )


@pytest.mark.parametrize("indices", [FULL_AND_SMALL, SMALL_AND_FULL, WIDER_THAN_NEEDED])
def test_decoding_is_that_of_the_eager_model_with_other_neurons_masked(
    artifact: Artifact, backend: Backend, options: TargetRecipe, indices: IndexArray
) -> None:
    model = tiny_model("llama", layers=LAYERS)
    sites, ids = find_ffns(model), torch.from_numpy(TOKENS)[None]
    with (
        load_target(options.name).numerics(model, sites, options),
        masked(model, sites, indices, first=PROMPT),
    ):
        wanted = model(ids).logits[0, PROMPT:].numpy()
    report = artifact.manifest.verification
    assert report is not None
    tolerance = 2e-5 if options.dtype == "fp32" else report["tolerance"]["logits"]
    assert logit_error(decoded(backend, indices), wanted) <= tolerance
    assert logit_error(decoded(backend, EQUAL), wanted) > 5 * tolerance


def test_choices_of_any_form_follow_each_other(artifact: Artifact, backend: Backend) -> None:
    choices = [EQUAL, FULL_AND_SMALL, None, SMALL_AND_FULL, WIDER_THAN_NEEDED]
    fresh = []
    for indices in choices:
        with Session.open(artifact.path) as session:
            fresh.append(decoded(session.backend, indices))
    assert len({logits.tobytes() for logits in fresh}) == len(choices)
    for index in (0, 1, 0, 2, 1, 3, 3, 4, 1, 0, 2):
        np.testing.assert_array_equal(decoded(backend, choices[index]), fresh[index])


def test_padding_that_all_rows_have_changes_no_bit(backend: Backend) -> None:
    padded = np.pad(EQUAL, ((0, 0), (0, 4)), constant_values=-1)
    np.testing.assert_array_equal(decoded(backend, padded), decoded(backend, EQUAL))


def test_graphs_for_one_number_of_neurons_say_so(exported: Exported) -> None:
    """The graphs of version 0.1 took rows of all layers as [K,D]."""
    artifact = Artifact.open(exported("llama", layers=LAYERS))
    target = artifact.manifest.target
    decode = target.signatures["decode"]
    inputs = tuple(
        replace(spec, shape=("K", *spec.shape[1:])) if spec.name.startswith("down.") else spec
        for spec in decode.inputs
    )
    assert inputs != decode.inputs
    signatures = {**target.signatures, "decode": replace(decode, inputs=inputs)}
    manifest = replace(artifact.manifest, target=replace(target, signatures=signatures))
    backend = OnnxRuntimeBackend(replace(artifact, manifest=manifest))
    wanted = decoded(backend, EQUAL)
    with pytest.raises(ArtifactError, match="layers keep from 5 to 48, .* export the model again"):
        backend.select(FULL_AND_SMALL)
    np.testing.assert_array_equal(decoded(backend, EQUAL), wanted)
    backend.close()
