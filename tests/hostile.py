"""What the scripts in tests/attacks are made of: changes of a sound artifact that only the check in
question can see, since sizes and checksums are made to fit.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import golden_artifact

SCRIPTS = sorted((Path(__file__).parent / "attacks").glob("*.py"))


def load(script: Path) -> ModuleType:
    """The script as a module: ``CODE``, ``attack(artifact)`` and, maybe, ``TARGET``."""
    spec = importlib.util.spec_from_file_location(f"attack_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(script: ModuleType, folder: Path) -> Path:
    """The hostile artifact that a script makes of a golden one."""
    artifact = folder / "artifact"
    shutil.copytree(golden_artifact.FOLDER / getattr(script, "TARGET", "onnx"), artifact)
    script.attack(artifact)
    return artifact


def seal(artifact: Path, content: bytes) -> None:
    """Write a manifest with its checksum."""
    (artifact / "glass.json").write_bytes(content)
    line = f"{hashlib.sha256(content).hexdigest()}  glass.json\n"
    (artifact / "glass.json.sha256").write_text(line)


def manifest_text(artifact: Path) -> str:
    """glass.json as it is."""
    return (artifact / "glass.json").read_text(encoding="utf-8")


def edit(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    manifest = json.loads(manifest_text(artifact))
    change(manifest)
    seal(artifact, json.dumps(manifest).encode())


def replace_text(artifact: Path, old: str, new: str) -> None:
    """Change the manifest's text where ``old`` is first found."""
    text = manifest_text(artifact)
    assert old in text
    seal(artifact, text.replace(old, new, 1).encode())


def put(artifact: Path, name: str, content: bytes) -> None:
    """Replace a file, or add one; the manifest knows its size and hash."""
    (artifact / name).write_bytes(content)
    entry = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = [item for item in manifest["files"] if item["path"] != name] + [entry]

    edit(artifact, change)


def edit_tokenizer(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change tokenizer.json."""
    tokenizer = json.loads((artifact / "tokenizer.json").read_text(encoding="utf-8"))
    change(tokenizer)
    put(artifact, "tokenizer.json", json.dumps(tokenizer).encode())


def put_template(artifact: Path, source: str) -> None:
    """Replace the chat template."""
    put(artifact, "chat_template.jinja", source.encode())


def safetensors(header: dict[str, Any], data: bytes) -> bytes:
    """The bytes of a safetensors file."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def prior_header(artifact: Path) -> tuple[dict[str, Any], bytes]:
    """The header of prior.safetensors and the bytes behind it."""
    content = (artifact / "prior.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return header, content[start:]
