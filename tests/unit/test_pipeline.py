"""What an export writes of the rule that it found or was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export.artifact import PRIOR_NAME, Artifact
from glass_export.prior import Prior
from glass_export.runtime import Session
from glass_export.search.candidates import describe
from glass_export.selection import RULES, SelectionRecipe

Exported = Callable[..., Path]


def test_an_export_in_mode_auto_searches_and_tells_what_it_found(exported: Exported) -> None:
    path = exported("llama", "onnx", "selection.mode=auto", "selection.density=0.25")
    manifest = Artifact.open(path, check="full").manifest
    found, selection = manifest.search, manifest.selection
    assert found is not None and found.density == selection.density == 0.25
    assert selection.mode == "auto" and manifest.recipe["selection"]["mode"] == "auto"
    kls = [judged.kl for judged in found.rules]
    assert kls == sorted(kls) and len(found.layer_kl) == manifest.model.dims.layers
    assert found.rules[0].rule == describe(selection)
    prior = Prior.load(path / PRIOR_NAME)
    assert found.rules[0].text == manifest.prior.text == prior.text
    assert manifest.prior.tokens == prior.tokens
    with Session.open(path) as session:
        assert session.generate("the quick", max_new_tokens=4).token_ids


@pytest.mark.parametrize("mode", ["paper-a", "paper-i"])
def test_a_given_rule_is_exported_without_a_search(exported: Exported, mode: str) -> None:
    manifest = Artifact.open(exported("llama", "onnx", f"selection.mode={mode}")).manifest
    assert manifest.search is None and manifest.prior.text == "null"
    assert manifest.selection == SelectionRecipe(mode=mode)
    assert manifest.selection.prior == RULES[mode].prior
