"""The gate of an export: the artifact has to compute what the eager model computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from glass_export.artifact import Artifact
from glass_export.errors import ArtifactError, VerificationError
from glass_export.runtime.engines import open_backend
from glass_export.verify.compare import compare
from glass_export.verify.reference import REFERENCE_NAME, Reference


def verify_artifact(
    path: Path, *, check_hashes: bool = True, trusted_keys: Sequence[str] | None = None
) -> dict[str, Any]:
    """Compare an artifact with the reference it carries, on this machine's runtime.

    Args:
        path: The artifact's directory.
        check_hashes: Also compare every file with its SHA-256.
        trusted_keys: Public keys of which one must have signed it, see :meth:`.Artifact.open`.

    Returns:
        The report of compare.compare.

    Raises:
        ArtifactError: the artifact is damaged, or was exported without a reference.
    """
    check: Literal["size", "full"] = "full" if check_hashes else "size"
    artifact = Artifact.open(path, check=check, trusted_keys=trusted_keys)
    if all(entry.path != REFERENCE_NAME for entry in artifact.manifest.files):
        raise ArtifactError(
            f"{path}: exported without verification, so it has nothing to be compared with; "
            "export it again without --no-verify"
        )
    reference = Reference.load(artifact.file(REFERENCE_NAME))
    backend = open_backend(artifact, threads=None, max_length=None)
    try:
        return compare(backend, reference)
    finally:
        backend.close()


def require_passed(report: dict[str, Any]) -> None:
    """Raise VerificationError, listing the failed checks, unless all passed."""
    failed = [c for c in report["checks"] if not c["passed"]]
    if not failed:
        return
    lines = "\n".join(
        f"  {c['name']}: got {c['value']:.3g}, expected at most {c['limit']:.3g}" for c in failed
    )
    raise VerificationError(
        f"the artifact differs from the eager model in {len(failed)} of {len(report['checks'])} "
        f"checks:\n{lines}"
    )
