"""The hub source: the real hub client against a small server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FOREIGN = ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
FETCH = """
import json, logging, sys
logging.basicConfig(format="%(message)s")
from glass_export.errors import SourceError
from glass_export.recipe import resolve
from glass_export.sources import fetch, locate
try:
    model = resolve(sys.argv[1]).model
    if len(sys.argv) > 2:
        print(json.dumps({"files": sorted(p.name for p in locate(model).iterdir())}))
        sys.exit()
    got = fetch(model)
    files = sorted(p.name for p in got.path.iterdir())
    print(json.dumps({"reference": got.info.reference, "kind": got.info.kind, "files": files}))
except SourceError as problem:
    print(json.dumps({"error": str(problem)}))
"""


class Hub(BaseHTTPRequestHandler):
    """Just enough of the hub's interface for one repository."""

    files: dict[str, bytes]
    refusal: tuple[int, str] | None
    refused = ""
    """Only paths that contain this are refused."""
    token: str | None = None
    """Who sends it is not refused."""
    requested: list[str]

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.requested.append(path)
        known = self.token and self.headers["Authorization"] == f"Bearer {self.token}"
        if self.refusal and self.refused in path and not known:
            self.send(self.refusal[0], b"{}", {"X-Error-Code": self.refusal[1]})
        elif "/tree/" in path:
            listing = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in self.files.items()
            ]
            self.send(200, json.dumps(listing).encode())
        elif path.startswith("/api/models/"):
            about = {"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]}
            self.send(200, json.dumps(about).encode())
        elif (name := path.partition(f"/resolve/{COMMIT}/")[2]) not in self.files:
            self.send(404, b"{}")
        else:
            data = self.files[name]
            tag = hashlib.sha256(data).hexdigest()
            self.send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(checkpoint: Callable[[str], Path]) -> Iterator[tuple[str, type[Hub]]]:
    """Address of a hub that has a/b, and the class that serves it."""
    files = {path.name: path.read_bytes() for path in checkpoint("llama").iterdir()}
    files |= {name: b"danger" for name in ("pytorch_model.bin", "modeling_b.py", "x/config.json")}
    serving = type("Serving", (Hub,), {"files": files, "refusal": None, "requested": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", serving
    server.shutdown()
    server.server_close()


def run(address: str, home: Path, *model: str, **settings: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    environment |= settings
    outcome = subprocess.run(
        [sys.executable, "-c", FETCH, *(model or ("a/b",))],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "it/s" not in outcome.stderr, "the library draws no bars of its own"
    return dict(json.loads(outcome.stdout))


def test_weights_config_and_tokenizer_are_downloaded_and_nothing_else(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, serving = hub
    got = run(address, tmp_path)
    assert got["kind"] == "hub"
    assert got["reference"] == f"a/b@{COMMIT}"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(got["files"])
    asked = " ".join(serving.requested)
    assert "pytorch_model.bin" not in asked
    assert "modeling_b.py" not in asked
    assert "x/config.json" not in asked

    serving.requested.clear()
    assert run(address, tmp_path, HF_HUB_OFFLINE="1") == got, "the local cache must do"
    assert serving.requested == []
    assert run("http://127.0.0.1:9", tmp_path) == got, "the local cache must do"


def test_of_a_model_that_is_only_planned_the_configuration_is_downloaded(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, serving = hub
    assert run(address, tmp_path, "a/b", "locate") == {"files": ["config.json"]}
    assert not any("safetensors" in path for path in serving.requested)
    run(address, tmp_path)
    assert "model.safetensors" in run("http://127.0.0.1:9", tmp_path, "a/b", "locate")["files"]


def test_an_incomplete_local_cache_does_not_count(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, _ = hub
    run(address, tmp_path)
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    weights.unlink()
    assert "not in the local Hugging Face cache" in run("http://127.0.0.1:9", tmp_path)["error"]


def test_a_restricted_model_names_the_page_to_visit(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, serving = hub
    serving.refusal = (403, "GatedRepo")
    error = run(address, tmp_path)["error"]
    assert f"accept the terms at {address}/a/b" in error
    assert "HF_TOKEN" in error


def test_a_restricted_model_is_downloaded_with_a_token(
    hub: tuple[str, type[Hub]], tmp_path: Path
) -> None:
    address, serving = hub  # the real one lists a restricted model's files to everyone, too
    serving.refusal, serving.refused, serving.token = (401, "GatedRepo"), "/resolve/", "hf_secret"
    error = run(address, tmp_path / "without", HF_TOKEN="hf_other")["error"]
    assert f"accept the terms at {address}/a/b" in error and "hf_other" not in error
    assert "error" not in run(address, tmp_path / "with", HF_TOKEN="hf_secret")
    (tmp_path / "login").mkdir()
    (tmp_path / "login/token").write_text("hf_secret")  # what `hf auth login` writes
    assert "error" not in run(address, tmp_path / "login")


def test_a_revision_is_asked_for_by_name(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, serving = hub
    got = run(address, tmp_path, "a/b@v9")
    assert got["reference"] == f"a/b@{COMMIT}", "the commit, which does not move"
    assert "/api/models/a/b/revision/v9" in serving.requested
    assert not any(path.endswith("/revision/main") for path in serving.requested)
    assert run(address, tmp_path, "a/b@v9", HF_HUB_OFFLINE="1") == got
    assert "not in the local" in run(address, tmp_path, "a/b@v8", HF_HUB_OFFLINE="1")["error"]


def test_all_shards_are_downloaded(
    hub: tuple[str, type[Hub]], sharded: Path, tmp_path: Path
) -> None:
    address, serving = hub
    del serving.files["model.safetensors"]
    serving.files |= {path.name: path.read_bytes() for path in sharded.iterdir()}
    shards = {name for name in serving.files if name.endswith(".safetensors")}
    got = run(address, tmp_path)
    assert len(shards) > 1 and shards < set(got["files"])
    next(iter(tmp_path.rglob(f"snapshots/*/{min(shards)}"))).unlink()
    assert "not in the local" in run(address, tmp_path, HF_HUB_OFFLINE="1")["error"]


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((404, "RepoNotFound"), "no such repository, or a private one"),
        ((404, "RevisionNotFound"), "no revision 'v9'"),
        ((500, ""), "the hub cannot be reached"),
    ],
)
def test_refusals(
    hub: tuple[str, type[Hub]], tmp_path: Path, refusal: tuple[int, str], message: str
) -> None:
    address, serving = hub
    serving.refusal = refusal
    assert message in run(address, tmp_path, "a/b@v9")["error"]


def test_pickled_weights_are_not_downloaded(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, serving = hub
    del serving.files["model.safetensors"]
    assert "no safetensors weights" in run(address, tmp_path)["error"]


def test_an_offline_run_asks_no_one(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, serving = hub
    assert "HF_HUB_OFFLINE is set" in run(address, tmp_path, HF_HUB_OFFLINE="1")["error"]
    assert serving.requested == []


def test_a_hub_that_does_not_answer_is_given_up_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        begin = time.monotonic()
        error = run(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)["error"]
        assert time.monotonic() - begin < 15, "3 s of patience and the start of Python"
    assert "the hub cannot be reached" in error
