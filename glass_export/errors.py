"""The closed set of errors this package raises on purpose.

Every message says what failed, what was got, what was expected and what to do.
"""

from __future__ import annotations

from enum import StrEnum


class GlassError(Exception):
    """Base of all errors of this package. ``exit_code`` is what the command line returns."""

    exit_code = 1


class RecipeError(GlassError):
    """A recipe, an option or an argument is not usable."""

    exit_code = 2


class UnsupportedModelError(GlassError):
    """The model is unknown, or its family or one of its features is not supported."""

    exit_code = 2


class SourceError(GlassError):
    """No source of the model could be reached, or what came from it is damaged."""


class ResourceError(GlassError):
    """This machine cannot do what is asked: memory, disk, or a part that is not supported."""


class CalibrationError(GlassError):
    """The global prior could not be computed from the calibration text."""


class LoweringError(GlassError):
    """A traced graph could not be turned into the target's form."""


class NativeError(GlassError):
    """The native library could not be built, found or loaded, or is of another version."""


class ArtifactCode(StrEnum):
    """What can be wrong with an artifact: the closed list of ``artifacts/README.md``.

    The same as ``ArtifactCode`` in ``csrc/driver/artifact_code.h``.
    """

    NO_ARTIFACT = "no-artifact"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too-large"
    CHECKSUM = "checksum"
    ENCODING = "encoding"
    JSON = "json"
    SCHEMA = "schema"
    MANIFEST = "manifest"
    PATH = "path"
    TENSOR = "tensor"
    LINK = "link"
    MISSING = "missing"
    SIZE = "size"
    HASH = "hash"
    GRAPH = "graph"
    TOKENIZER = "tokenizer"
    TEMPLATE = "template"
    PRIOR = "prior"
    SIGNATURE = "signature"
    UNSUPPORTED = "unsupported"


class ArtifactError(GlassError):
    """An artifact is missing, damaged, altered, or of another schema.

    ``code`` says what a reader found; None where no artifact is read, as when one is written.
    """

    def __init__(self, message: str, code: ArtifactCode | None = None) -> None:
        super().__init__(message)
        self.code = code


class SigningError(GlassError):
    """A key that signs or checks artifacts is not usable."""

    exit_code = 2


class VerificationError(GlassError):
    """An artifact does not compute what the eager model computes."""


class GenerationError(GlassError):
    """A generation request is not usable: prompt, density, indices or sampling settings."""

    exit_code = 2


class EvaluationError(GlassError):
    """An evaluation cannot be run as asked: its prompts or its settings are not usable."""

    exit_code = 2


class TuningError(GlassError):
    """No setting that was measured is as faithful or as fast as asked for."""


class BenchError(GlassError):
    """A benchmark cannot be run as asked."""

    exit_code = 2


class WorkerError(BenchError):
    """A contestant's process refused a request, or is gone; ``kind`` is the exception's name."""

    exit_code = 1

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
