"""The native sources of this project in a CycloneDX bill of materials of its Python packages.

``python requirements/sbom.py PYTHON-BOM OUTPUT`` adds to what cyclonedx-py wrote of the lock file
the C and C++ sources that are compiled into the native libraries, checks the whole against
CycloneDX's schema and writes it. Run by ``make sbom``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glass_export import libsodium, llama_cpp, tokenizers_cpp
from glass_export.source_archive import SourceArchive

ROOT = "root-component"  # what cyclonedx-py calls the project


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSource:
    """A library of which sources are compiled into the driver.

    Attributes:
        name: Of the library.
        version: Its own, "" where the source distribution does not tell.
        license: SPDX expression.
        archive: The source distribution on the package index that carries it.
        use: What is taken of it.
    """

    name: str
    version: str
    license: str
    archive: SourceArchive
    use: str


NATIVE = (
    NativeSource(
        name="pcre2",
        version="10.46",
        license="BSD-3-Clause WITH PCRE2-exception",
        archive=tokenizers_cpp.ARCHIVE,
        use="regular expressions of the tokenizer",
    ),
    NativeSource(
        name="llama.cpp",
        version="",
        license="MIT",
        archive=llama_cpp.ARCHIVE,
        use="Jinja engine, JSON, SHA-256 (public domain)",
    ),
    NativeSource(
        name="nlohmann-json",
        version="3.12.0",
        license="MIT",
        archive=llama_cpp.ARCHIVE,
        use="reads JSON",
    ),
    NativeSource(
        name="libsodium",
        version="1.0.20",
        license="ISC",
        archive=libsodium.ARCHIVE,
        use="checks Ed25519 signatures",
    ),
)


def component(source: NativeSource) -> dict[str, Any]:
    """A native source as CycloneDX describes it."""
    archive = source.archive
    carrier = archive.root.rpartition("-")
    version = {"version": source.version} if source.version else {}
    return {
        "type": "library",
        "bom-ref": f"native-{source.name}",
        "name": source.name,
        **version,
        "description": source.use,
        "licenses": [{"expression": source.license}],
        "purl": f"pkg:generic/{source.name}" + (f"@{source.version}" if source.version else ""),
        "externalReferences": [
            {
                "type": "source-distribution",
                "url": f"https://pypi.org/project/{archive.package}/{carrier[2]}/#files",
                "comment": f"sources are taken of {archive.name}",
                "hashes": [{"alg": "SHA-256", "content": archive.sha256}],
            }
        ],
    }


def extended(bom: dict[str, Any]) -> dict[str, Any]:
    """A bill of materials with the native sources, and the project depending on everything."""
    components = [*bom["components"], *map(component, NATIVE)]
    direct = sorted(part["bom-ref"] for part in components)
    others = [entry for entry in bom.get("dependencies", []) if entry["ref"] != ROOT]
    known = {entry["ref"] for entry in others}
    leaves = [{"ref": ref} for ref in direct if ref not in known]
    return {
        **bom,
        "components": components,
        "dependencies": [{"ref": ROOT, "dependsOn": direct}, *others, *leaves],
    }


def main(source: Path, output: Path) -> None:
    """Extend one file to another. Exits with what CycloneDX's schema says against it."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(extended(json.loads(source.read_text(encoding="utf-8"))), indent=1) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"{output}: not valid CycloneDX 1.6: {problem}")
    output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
