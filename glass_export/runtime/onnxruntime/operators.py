"""The project's operators: a library that sessions load by its path."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import onnxruntime as ort

from glass_export import native
from glass_export.errors import NativeError
from glass_export.runtime.onnxruntime.model_file import metadata

ABI_VERSION = "glass.abi_version"
"""Key in a graph's metadata: the version of the operators that it was exported for."""


class Operators:
    """The library, which is built on first use."""

    def __init__(self) -> None:
        """Find or build it, and load it.

        Raises:
            NativeError: it cannot be built, or it is not ours.
        """
        self.path = native.library("onnxruntime")
        try:
            loaded = ctypes.CDLL(os.fspath(self.path))
            loaded.glass_abi_version.restype = ctypes.c_int32
            self.version = int(loaded.glass_abi_version())
        except (OSError, AttributeError) as problem:
            raise NativeError(
                f"{self.path}: not a usable operator library: {problem}; "
                f"run `{native.BUILD_COMMAND} --force` to build it again"
            ) from problem

    def check(self, path: Path) -> None:
        """Make sure that the graph in a file was exported for this version.

        Raises:
            ArtifactError: the file is no ONNX model.
            NativeError: it was exported for another version.
        """
        wanted = metadata(path.read_bytes()).get(ABI_VERSION, "unknown")
        if wanted != str(self.version):
            raise NativeError(
                f"{self.path}: operators of version {self.version}, but {path} needs version "
                f"{wanted}; run `{native.BUILD_COMMAND} --force`, or export the model again"
            )

    def register(self, options: ort.SessionOptions, threads: int) -> None:
        """Offer the operators to sessions of these options, for that number of threads.

        Raises:
            NativeError: this ONNX Runtime refuses them.
        """
        # ONNX Runtime does not tell operators how many threads it has; see csrc/onnxruntime.
        options.add_session_config_entry(native.ONNXRUNTIME_THREADS, str(threads))
        try:
            options.register_custom_ops_library(os.fspath(self.path))
        except Exception as problem:
            raise NativeError(
                f"{self.path}: ONNX Runtime {ort.__version__} cannot load these operators: "
                f"{problem}; run `{native.BUILD_COMMAND} --force` to build them again"
            ) from problem
