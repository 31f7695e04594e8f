"""The rule of an export: given, searched or found before."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import LAYERS, tiny_tokenizer

from glass_export import search
from glass_export.evaluate.eager import EagerModel
from glass_export.evaluate.methods import Chooser, Method, NullText
from glass_export.evaluate.priors import measure_prior
from glass_export.evaluate.protocol import run_text
from glass_export.evaluate.texts import EvalText
from glass_export.evaluate.trace import Trace
from glass_export.fusion import Priors
from glass_export.load import LoadedModel
from glass_export.recipe import CalibrationRecipe
from glass_export.search import Settled, judge, settle, texts
from glass_export.search.candidates import describe
from glass_export.selection import RULE_FIELDS, Mode, SelectionRecipe
from glass_export.spec import FfnSite

AUTO = SelectionRecipe(mode="auto")
LAYER_KL = [0.1, 0.3, 0.2]
Cost = Callable[[Method], float]
Settle = Callable[..., Settled]


@pytest.fixture
def settled(
    loaded: LoadedModel,
    sites: list[FfnSite],
    calibration: CalibrationRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settle:
    """``settled(selection=AUTO, **changes of the model)``: a search has a cache of its own."""
    monkeypatch.setattr(search, "cache_dir", lambda: tmp_path)

    def run(selection: SelectionRecipe = AUTO, **changes: Any) -> Settled:
        return settle(replace(loaded, **changes), sites, calibration, selection)

    return run


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cost], list[Method]]:
    """``costs(kl)``: rules cost what ``kl`` says, without a run; gives the list of those asked."""

    def script(kl: Cost) -> list[Method]:
        asked: list[Method] = []

        def run(_model: Any, _texts: Any, methods: Sequence[Method], _: Any) -> list[list[Trace]]:
            asked.extend(methods)
            nothing = np.zeros(2)
            steps = np.arange(2)
            return [[Trace(steps, np.full(2, kl(method)), nothing, nothing)] for method in methods]

        text = EvalText((0, 20), (0.0, 1.0), tuple(range(30, 50)), "held-out")
        monkeypatch.setattr(judge, "run_texts", run)
        monkeypatch.setattr(judge.Judge, "layer_kl", lambda *_: LAYER_KL)
        monkeypatch.setattr(search, "held_out_texts", lambda *_, **__: [text])
        return asked

    return script


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """``no_search()``: from now on a search is an error."""

    def fail(*_: object) -> None:
        raise AssertionError("a search was made")

    return lambda: monkeypatch.setattr(search, "_search", fail)


def best(name: str, start: str = "null") -> Cost:
    """Costs of which those of one rule are least."""

    def kl(method: Method) -> float:
        wanted = describe(method.selection) == name and method.null_text.start == start
        return 0.1 if wanted else 0.5 + 0.01 * len(name)

    return kl


def rule(selection: SelectionRecipe) -> dict[str, Any]:
    return {name: getattr(selection, name) for name in RULE_FIELDS}


def cached(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "searches").iterdir()
    return path


@pytest.mark.parametrize("mode", ["fixed", "paper-a", "paper-i", "griffin"])
def test_a_given_rule_is_not_searched(
    settled: Settle, no_search: Callable[[], None], mode: Mode, tmp_path: Path
) -> None:
    no_search()
    given = SelectionRecipe(mode=mode, density=0.25)
    found = settled(given)
    assert (found.selection, found.search, found.prior.text) == (given, None, "null")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "start", "fields"),
    [
        ("borda A I lam 0.5", "null", {"local": "A", "prior": "I", "local_tokens": "all"}),
        ("borda A A lam 0.35", "null", {"lam": 0.35, "local_tokens": "all"}),
        ("borda squared F lam 0.5", "template", {"prior": "F", "local_tokens": "user"}),
        ("shrinkage squared G tau 128", "mixed", {"tau": 128.0, "dense_layers": ()}),
    ],
)
def test_the_rule_that_costs_least_is_taken_as_it_was_measured(
    settled: Settle,
    costs: Callable[[Cost], list[Method]],
    name: str,
    start: str,
    fields: dict[str, Any],
) -> None:
    if name.endswith("0.35"):
        first, second = best("borda A A lam 0.5"), best(name)
        asked = costs(lambda method: min(first(method) + 0.1, second(method)))
    else:
        asked = costs(best(name, start))
    found = settled(AUTO)
    (winner,) = (m for m in asked if (m.name, m.null_text.start) == (name, start))
    assert rule(found.selection) == rule(winner.selection) | fields
    assert found.selection.mode == "auto" and found.prior.text == start


def test_settings_and_dense_layers_are_tried_on_the_best_of_the_stage_before(
    settled: Settle, costs: Callable[[Cost], list[Method]]
) -> None:
    falling = {
        "shrinkage squared G tau 32": 0.4,
        "shrinkage squared G tau 32 sensitivity 0.5": 0.3,
        "shrinkage squared G tau 32 sensitivity 0.5 dense 1": 0.25,
        "shrinkage squared G tau 32 sensitivity 0.5 dense 1,2": 0.2,
    }
    asked = costs(lambda m: falling.get(m.name, 0.9) if m.null_text.start == "template" else 1.0)
    found = settled(AUTO)
    assert (found.selection.tau, found.selection.sensitivity) == (32.0, 0.5)
    assert found.selection.dense_layers == (1, 2)
    assert len(asked) == 14 + 4 + 2 == len({(m.name, m.null_text) for m in asked})
    assert all(m.null_text.start == "template" for m in asked[14:])


def test_density_and_refresh_stay_those_of_the_recipe(
    settled: Settle, costs: Callable[[Cost], list[Method]]
) -> None:
    asked = costs(best("borda squared G lam 0.5"))
    given = SelectionRecipe(mode="auto", density=0.25, refresh=8, dense_start=4)
    found = settled(given)
    chosen = found.selection
    assert (chosen.density, chosen.refresh, chosen.dense_start) == (0.25, 8, 4)
    assert {m.selection.density for m in asked} == {0.25} and found.search is not None
    assert found.search.density == 0.25


def test_all_that_was_compared_is_told_the_best_first(
    settled: Settle, costs: Callable[[Cost], list[Method]]
) -> None:
    asked = costs(lambda method: 0.2 + len(method.name) / 100)
    info = settled(AUTO).search
    assert info is not None and info.layer_kl == tuple(LAYER_KL)
    assert (info.texts, info.steps) == (1, 19) and info.seconds == 0
    assert {(r.rule, r.text) for r in info.rules} == {(m.name, m.null_text.start) for m in asked}
    lengths = [len(r.rule) for r in info.rules]
    assert lengths == sorted(lengths) and info.rules[0].kl == pytest.approx(0.2 + lengths[0] / 100)


def test_a_search_is_made_once(
    settled: Settle,
    costs: Callable[[Cost], list[Method]],
    no_search: Callable[[], None],
    tmp_path: Path,
) -> None:
    costs(best("borda squared F lam 0.5", "mixed"))
    first = settled(AUTO)
    content = cached(tmp_path).read_bytes()
    no_search()
    again = settled(replace(AUTO, refresh=8))
    assert again.selection == replace(first.selection, refresh=8)
    assert (again.search, again.prior.text) == (first.search, "mixed")
    np.testing.assert_array_equal(again.prior.statistics["F"], first.prior.statistics["F"])
    assert cached(tmp_path).read_bytes() == content
    with pytest.raises(AssertionError, match="a search was made"):
        settled(replace(AUTO, density=0.25))


@pytest.mark.parametrize("damage", ["empty", "truncated", "unknown key", "value out of range"])
def test_a_damaged_file_of_a_search_is_ignored_with_a_warning(
    settled: Settle,
    costs: Callable[[Cost], list[Method]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    costs(best("borda squared F lam 0.5"))
    first = settled(AUTO)
    path = cached(tmp_path)
    content = path.read_text()
    data = json.loads(content)
    damaged = {
        "empty": "",
        "truncated": content[: len(content) // 2],
        "unknown key": json.dumps(data | {"extra": 1}),
        "value out of range": json.dumps(data | {"selection": data["selection"] | {"lam": 7.0}}),
    }
    path.write_text(damaged[damage])
    with caplog.at_level(logging.WARNING, "glass_export"):
        again = settled(AUTO)
    assert [r.message for r in caplog.records if "ignored, it is made again" in r.message]
    assert again.selection == first.selection
    assert json.loads(path.read_text())["selection"] == data["selection"]


def test_a_cache_that_cannot_be_written_is_no_error(
    settled: Settle,
    costs: Callable[[Cost], list[Method]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "searches").write_text("in the way")
    costs(best("borda squared F lam 0.5"))
    with caplog.at_level(logging.WARNING, "glass_export"):
        assert settled(AUTO).selection.prior == "F"
    assert any("cannot write" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("template", "warned"), [(None, False), ("<|user|><|assistant|>", True), ("", False)]
)
def test_a_model_without_a_usable_template_is_searched_on_text_from_nothing(
    settled: Settle,
    costs: Callable[[Cost], list[Method]],
    caplog: pytest.LogCaptureFixture,
    template: str | None,
    warned: bool,
) -> None:
    asked = costs(best("shrinkage squared G tau 32"))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with caplog.at_level(logging.WARNING, "glass_export"):
        found = settled(AUTO, tokenizer=tokenizer)
    assert {method.null_text.start for method in asked} == {"null"}
    assert found.prior.text == "null"
    assert bool(caplog.records) == warned


@pytest.fixture(scope="module")
def real(
    loaded: LoadedModel,
    sites: list[FfnSite],
    calibration: CalibrationRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Settled]]:
    """Two searches by the tiny model, smaller than usual, that know nothing of each other."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TEXTS", 4), ("STEPS", 24), ("WRITTEN", 768)):
            patch.setattr(texts, name, value)
        outcomes = []
        for _ in range(2):
            folder = tmp_path_factory.mktemp("search")
            patch.setattr(search, "cache_dir", lambda folder=folder: folder)
            outcomes.append(settle(loaded, sites, calibration, replace(AUTO, density=0.25)))
        yield outcomes


def test_a_search_finds_the_same_again(real: list[Settled]) -> None:
    first, second = real
    assert first.search is not None and second.search is not None
    assert first.selection == second.selection and first.prior.text == second.prior.text
    assert first.search == second.search


def test_the_rule_of_a_search_is_the_best_of_those_compared(real: list[Settled]) -> None:
    selection, info = real[0].selection, real[0].search
    assert info is not None and (info.texts, info.density) == (4, 0.25)
    kls = [judged.kl for judged in info.rules]
    assert len(kls) >= 14 + 2 + 1 and kls == sorted(kls) and kls[0] > 0
    assert (info.rules[0].rule, info.rules[0].text) == (describe(selection), real[0].prior.text)
    assert len(info.layer_kl) == LAYERS and min(info.layer_kl) > 0


def test_the_cost_of_the_rule_is_that_of_a_run_with_it(
    real: list[Settled], loaded: LoadedModel, sites: list[FfnSite], calibration: CalibrationRecipe
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TEXTS", 4), ("STEPS", 24), ("WRITTEN", 768)):
            patch.setattr(texts, name, value)
        held_out = texts.held_out_texts(loaded, calibration, None, templated=True)
    (found, _), info = real, real[0].search
    text = NullText(start=found.prior.text)
    method = Method("auto", found.selection, null_text=text)
    prior = Priors(measure_prior(loaded, sites, calibration, text).statistics)
    model, chooser = EagerModel(loaded.model, sites), Chooser({text: prior}, None)
    kls = [
        run_text(model, each, index, [method], chooser)[0].kl.mean()
        for index, each in enumerate(held_out)
    ]
    assert info is not None and info.rules[0].kl == pytest.approx(np.mean(kls), rel=1e-3)
