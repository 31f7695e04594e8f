"""docs/families.md is what the verification of all families gave."""

from __future__ import annotations

import json

from families_table import DTYPES, FORMS, PAGE, RESULTS, SPECIAL, cell, page
from tiny_models import CONFIGS, STOCK

from glass_export.families import known_families

RECORDED = json.loads(RESULTS.read_text())


def test_results_are_of_known_configurations_and_forms() -> None:
    assert set(RECORDED) == set(CONFIGS) == set(SPECIAL)
    for forms in RECORDED.values():
        assert set(forms) <= set(FORMS)
        assert {dtype for outcome in forms.values() for dtype in outcome} <= set(DTYPES)


def test_every_configuration_is_verified_in_float32_for_both_targets() -> None:
    for name, forms in RECORDED.items():
        onnx = "ONNX" if name in STOCK else "ONNX, our operators"
        assert [forms[form]["fp32"] for form in (onnx, "ExecuTorch")] == ["", ""], name


def test_the_page_is_that_of_the_results_and_lists_every_family() -> None:
    text = PAGE.read_text()
    assert text == page(RECORDED)
    assert all(f"`{family}`" in text for family in known_families())


def test_a_failure_has_a_note_and_what_was_not_tried_nothing() -> None:
    problems: list[str] = []
    assert cell({"fp32": "", "int4": "LoweringError: no"}, problems) == "fp32 (1)"
    assert cell({"int4": "", "fp32": "", "int8": "LoweringError: no"}, problems) == "fp32, int4 (1)"
    assert cell({}, problems) == "" and problems == ["LoweringError: no"]
