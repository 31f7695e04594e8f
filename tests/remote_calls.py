"""NativeCore in another process: a build for another processor, run by an emulator.

The protocol is that of tests/cpp/core_server.cpp.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from native_calls import STATUSES, NativeCore, NativeError

_TEXTS = ("glass_core_isa_name", "glass_core_status_message")


class RemoteCore(NativeCore):
    """The functions of a running core_server, which ``command`` starts."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._library: Any = _Functions(self)

    def call(self, name: str, *arguments: Any) -> None:
        """See NativeCore.call; arrays are sent, and written to with what comes back."""
        status = self.request(name, arguments)
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                data = self._memory()
                argument.reshape(-1).view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
            elif isinstance(argument, ctypes.Structure):
                self._memory()  # parameters, which stay as they are
        if status != 0:
            raise NativeError(STATUSES[status])

    def request(self, name: str, arguments: Sequence[Any]) -> int:
        """Send a request and read the number that is answered."""
        encoded = name.encode()
        message = [struct.pack("<I", len(encoded)), encoded, *map(_encoded, arguments)]
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(message))
        self._process.stdin.flush()
        (result,) = struct.unpack("<q", self.receive(8))
        return int(result)

    def receive(self, size: int) -> bytes:
        """So many bytes of the answer."""
        assert self._process.stdout is not None and self._process.stderr is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise RuntimeError(f"core_server ended: {self._process.stderr.read().decode()}")
        return data

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _memory(self) -> bytes:
        return self.receive(struct.unpack("<q", self.receive(8))[0])


class _Functions:
    """Stands for a ctypes library, for functions that take numbers alone."""

    def __init__(self, core: RemoteCore) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def function(*arguments: Any) -> Any:
            result = self._core.request(name.removeprefix("glass_core_"), arguments)
            return self._core.receive(result) if name in _TEXTS else result

        return function


def _encoded(argument: Any) -> bytes:
    if argument is None:
        return struct.pack("<q", -1)
    if isinstance(argument, np.ndarray):
        return struct.pack("<q", argument.nbytes) + argument.tobytes()
    if isinstance(argument, ctypes.Structure):
        return struct.pack("<q", ctypes.sizeof(argument)) + bytes(argument)
    number = getattr(argument, "value", argument)
    return struct.pack("<d" if isinstance(number, float) else "<q", number)
