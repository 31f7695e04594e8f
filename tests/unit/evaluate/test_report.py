"""Figures, tables and the report of an evaluation, from traces made by hand."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from glass_export.errors import EvaluationError
from glass_export.evaluate import report
from glass_export.evaluate.charts import charts
from glass_export.evaluate.summary import Evaluation, Mean, evaluation, ratio
from glass_export.evaluate.table import domain_rows, rows, tables
from glass_export.evaluate.texts import EvalText
from glass_export.evaluate.trace import Trace
from glass_export.schema import from_data, to_data

STEPS = np.arange(40)
TEXTS = [
    EvalText((1, 2), (1.0, 1.0), tuple(range(41)), name) for name in ("chat", "<code>[b]", "chat")
]


def traces(kl: float, layers: int = 3) -> list[Trace]:
    """Of three texts, with KLs of 1, 2 and 3 times ``kl``; NLL is 1 more than KL."""
    values = [np.full(len(STEPS), times * kl) for times in (1, 2, 3)]
    return [Trace(STEPS, v, v + 1, np.full(layers, 1 / (1 + kl))) for v in values]


@pytest.fixture
def outcome_of(settings_of: Any) -> Any:
    """``outcome_of(*methods, speeds=False, **sweep)``: the n-th row has n times the KL 0.1."""

    def make(*methods: str, speeds: bool = False, **sweep: Any) -> Evaluation:
        settings = settings_of(*methods, **sweep)
        compared = settings.sweep.expand(0.5, None)
        found = [traces(0.0 if m.name == "dense" else n / 10) for n, m in enumerate(compared, 1)]
        known = [100.0 + n for n in range(len(compared) + 1)] if speeds else []
        return evaluation(
            settings, compared, found, TEXTS, traces(0.0), 1, speeds=known,
            subject="models/a & b", where="by hand", versions={"numpy": "2"},
        )  # fmt: skip

    return make


class Page(HTMLParser):
    """Checks that tags are balanced and ids unique, and collects text and addresses."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.note(attrs)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.note(attrs)

    def note(self, attrs: Any) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.labels += [found["aria-label"]] if "aria-label" in found else []
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_means_errors_and_ratios(outcome_of: Any) -> None:
    griffin, glass = outcome_of("griffin", "a-glass").methods
    assert griffin.kl.value == pytest.approx(0.2)
    assert griffin.kl.error == pytest.approx(0.1 / math.sqrt(3))
    assert griffin.ppl.value == pytest.approx(math.exp(1.2))
    assert griffin.domains == pytest.approx({"chat": 0.2, "<code>[b]": 0.2})
    assert griffin.curve == pytest.approx([0.2, 0.2, 0.2])
    assert glass.ratio.value == pytest.approx(2.0) and glass.ratio.error == pytest.approx(0.0)


def test_the_error_of_a_ratio_is_that_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)

    def sample() -> Mean:
        base = rng.gamma(4.0, 0.25, 60)
        return ratio(0.7 * base + rng.normal(0, 0.1, 60), base)

    found = [sample() for _ in range(400)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.15)


def test_ratios_refer_to_the_baseline_of_equal_density_without_refresh(outcome_of: Any) -> None:
    outcome = outcome_of("griffin", "oracle", density=(0.5, 0.3), refresh=(0, 8))
    ratios = {row.label: row.ratio.value for row in outcome.methods}
    assert ratios["griffin 0.5"] == ratios["griffin 0.3"] == 1.0
    assert ratios["griffin 0.5 refresh 8"] == pytest.approx(2 / 1)
    assert ratios["oracle 0.3 refresh 8"] == pytest.approx(8 / 3)
    assert outcome_of("oracle").baseline is None is outcome_of("oracle").methods[0].ratio


def test_ratios_refer_to_the_baseline_of_the_same_prompt(outcome_of: Any) -> None:
    outcome = outcome_of("griffin", "oracle", prompt_tokens=(4, 8))
    ratios = [row.ratio.value for row in outcome.methods]
    assert ratios == pytest.approx([1.0, 1.0, 3.0])


def test_tables_leave_empty_columns_out(outcome_of: Any) -> None:
    headings, cells = rows(outcome_of("dense", "griffin", "oracle", speeds=True))
    assert headings == ["method", "KL", "x griffin", "PPL", "overlap", "decode tok/s"]
    assert [line[0] for line in cells] == ["dense", "griffin 0.5", "oracle 0.5"]
    assert cells[0][-1] == "103.0" and cells[1][-1] == "101.0"
    assert rows(outcome_of("oracle"))[0] == ["method", "KL", "PPL", "overlap"]


def test_tables_show_domains_as_they_are_spelt(outcome_of: Any) -> None:
    outcome = outcome_of("dense", "griffin")
    assert domain_rows(outcome) == (
        ["KL by domain", "chat", "<code>[b]"], [["griffin 0.5", "0.400", "0.400"]],
    )  # fmt: skip
    screen = Console(width=100, file=io.StringIO())
    with screen.capture() as shown:
        screen.print(*tables(outcome))
    assert "<code>[b]" in shown.get() and shown.get().count("griffin 0.5") == 2


def test_json_can_be_read_back(outcome_of: Any) -> None:
    outcome = outcome_of("dense", "griffin", "oracle", speeds=True)
    data = json.loads(json.dumps(to_data(outcome)))
    assert from_data(Evaluation, data, error=EvaluationError, where="json") == outcome


def test_report_is_whole_and_well_formed(outcome_of: Any, tmp_path: Path) -> None:
    outcome = outcome_of("dense", "griffin", "a-glass", "oracle", refresh=(0, 8), speeds=True)
    report.check(tmp_path / "r.html")
    report.write(outcome, tmp_path / "r.html")
    source = (tmp_path / "r.html").read_text("utf-8")
    page = Page(re.sub(r"<!DOCTYPE html>|<meta[^>]*>", "", source))
    assert page.open == [] and len(set(page.ids)) == len(page.ids) > 0
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r'(src|href)="https?:|@import|url\((?!#)', source)
    for row in outcome.methods:
        assert row.label in page.text
    assert "a & b" in page.text and "<code>[b]" in page.text
    assert len(page.labels) == source.count("<svg") == 4
    assert all("griffin 0.5" in label for label in page.labels)
    assert report.page(outcome) == source


def test_charts_are_of_what_there_is(outcome_of: Any) -> None:
    def titles(outcome: Evaluation) -> list[str]:
        return [chart.title.partition(",")[0] for chart in charts(outcome)]

    always = [
        "KL along the answer",
        "Overlap with the oracle by layer",
        "KL by domain of the prompt",
    ]
    assert titles(outcome_of("griffin", "oracle")) == always
    assert titles(outcome_of("griffin", speeds=True)) == [*always, "Speed against fidelity"]
    assert titles(outcome_of("griffin", density=(0.3, 0.5))) == [*always, "KL against density"]
    assert titles(outcome_of("dense", speeds=True)) == []
    many = outcome_of("griffin", density=tuple(n / 20 for n in range(2, 17)))
    assert "the 10 closest methods" in charts(many)[2].title


@pytest.mark.parametrize(
    ("name", "message"),
    [("r.pdf", "got '.pdf', expected .html"), ("no/r.html", "no is not a folder")],
)
def test_report_refuses_before_anything_is_measured(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        report.check(tmp_path / name)


def test_report_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "is_installed", lambda: False)
    with pytest.raises(EvaluationError, match=re.escape("pip install 'glass-export[bench]'")):
        report.check(tmp_path / "r.html")
