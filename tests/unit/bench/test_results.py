"""Medians, spreads and ratios, and the shapes of the JSON document and the picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glass_export import chart_style
from glass_export.bench import chart
from glass_export.bench.contestants import Contestant, Settings
from glass_export.bench.outcome import Case, Figures, Outcome
from glass_export.bench.results import Results, summarise
from glass_export.errors import BenchError

SETTINGS = Settings(densities=(0.5, 1.0), threads=(2, 1), contexts=(8,), repeats=3, tokens=4)
Make = Callable[..., Contestant]


def turns(*speeds: float, prefills: bool = True) -> list[Figures]:
    other: Figures = {"ttft_ms": 20.0, "prefill_tps": 400.0}
    if not prefills:
        other = dict.fromkeys(other)
    return [{"decode_tps": speed, **other} for speed in speeds]


@pytest.fixture
def results(contestant: Make) -> Results:
    """An artifact, a peer that cannot prefill, and one that has failed."""
    outcome = Outcome(engines={"ours": "toy 1", "peer": "toy 2"}, failures={"lost": "boom"})
    for threads in (1, 2):
        outcome.samples |= {
            Case("ours", 0.5, threads, 8): turns(30.0 * threads, 10.0, 31.0 * threads),
            Case("ours", 1.0, threads, 8): turns(20.0, 20.0, 20.0),
            Case("peer", None, threads, 8): turns(40.0, 40.0, 80.0, prefills=False),
            Case("lost", None, threads, 8): turns(1.0),
        }
    outcome.quality = {
        ("ours", 1.0): {"kl": 0.0, "ppl": 9.0, "scored_tokens": 3},
        ("ours", 0.5): {"kl": 0.4, "ppl": 12.0, "scored_tokens": 3},
        ("peer", None): {"kl": 0.2, "ppl": 10.0, "scored_tokens": 3},
    }
    outcome.memory[Case("ours", 0.5, 2, 8)] = {"peak_rss_mb": 123.0, "anon_mb": 45.0}
    names = [("ours", (0.5, 1.0)), ("peer", (None,)), ("lost", (None,))]
    return summarise([contestant(*name) for name in names], SETTINGS, outcome)


def test_medians_spreads_and_ratios(results: Results) -> None:
    document = results.document()
    (sparse,) = [r for r in document["runs"] if (r["density"], r["threads"]) == (0.5, 2)]
    assert sparse["decode_tps"] == 60.0 and sparse["spread"]["decode_tps"] == (10.0, 62.0)
    assert sparse["speedup"] == 3.0
    assert sparse["ratios"] == {"peer": {"decode": 1.5}}  # the peer has no prefill to compare with
    assert (sparse["kl"], sparse["ppl"]) == (0.4, 12.0)
    assert (sparse["peak_rss_mb"], sparse["anon_mb"]) == (123.0, 45.0)
    assert document["peer_runs"][0]["anon_mb"] is None
    assert document["ratios"] == {"peer": {"decode": {"1": 0.5, "0.5": 1.5}}}


def test_the_document_is_json_and_names_everything(results: Results) -> None:
    document = json.loads(json.dumps(results.document()))
    assert document["schema_version"] == 1 and document["artifact"] == "ours"
    assert {"cpu", "cores", "system"} <= set(document["device"])
    assert [(r["artifact"], r["threads"], r["density"]) for r in document["runs"]] == [
        ("ours", threads, density) for threads in (1, 2) for density in (1.0, 0.5)
    ]
    assert [r["peer"] for r in document["peer_runs"]] == ["peer", "peer"]
    assert document["peer_runs"][0]["ttft_ms"] is None
    assert document["failures"] == {"lost": "boom"}
    assert [about["engine"] for about in document["artifacts"]] == ["toy 1"]
    expected = "density threads context ttft_ms prefill_tps decode_tps fusion_ms peak_rss_mb kl ppl"
    assert set(expected.split()) <= set(document["runs"][0])


@pytest.mark.parametrize("suffix", chart.FORMATS)
def test_the_picture_is_drawn(results: Results, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"speed{suffix}"
    chart.check(path)
    chart.draw(results, path)
    content = path.read_bytes()
    assert content[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    if suffix == ".svg":  # one label a density, for the first number of threads only
        assert content.count(b"<!-- density") == 2 and b"<!-- peer -->" in content


def test_what_the_picture_lacks_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chart_style, "find_spec", lambda name: object())
    with pytest.raises(BenchError, match=r"got '\.jpeg', expected \.png"):
        chart.check(tmp_path / "a.jpeg")
    with pytest.raises(BenchError, match="nowhere is not a folder"):
        chart.check(tmp_path / "nowhere" / "a.png")
    monkeypatch.setattr(chart_style, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install 'glass-export\[bench\]'"):
        chart.check(tmp_path / "a.png")
