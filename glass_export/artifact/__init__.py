"""Artifact directories: open them with every check, write them all at once or not at all."""

from glass_export.artifact.checks import PRIOR_NAME
from glass_export.artifact.reader import CHECKSUM_NAME, Artifact
from glass_export.artifact.rewrite import sign_artifact, write_profile
from glass_export.artifact.signature import SIGNATURE_NAME, PublicKey
from glass_export.artifact.signing import SigningKey, generate_key
from glass_export.artifact.writer import ArtifactWriter

__all__ = [
    "CHECKSUM_NAME",
    "PRIOR_NAME",
    "SIGNATURE_NAME",
    "Artifact",
    "ArtifactWriter",
    "PublicKey",
    "SigningKey",
    "generate_key",
    "sign_artifact",
    "write_profile",
]
