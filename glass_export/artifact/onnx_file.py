"""What an ONNX file refers to, without the package ``onnx``. As csrc/driver/onnx_file.cpp.

Source: onnx.proto of ONNX 1.19.
"""

from __future__ import annotations

from glass_export import limits
from glass_export.protobuf import fields

# The messages in which tensors can be: by field number, the messages that they hold.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a TensorProto
_KEY, _VALUE = 1, 2


def onnx_problem(model: bytes, weights: str | None, size: int) -> str | None:
    """What is wrong with a model whose tensors may lie in the weights file and nowhere else.

    Args:
        model: A ModelProto.
        weights: Name of the weights file, in the folder of the model; None: there is none.
        size: Its size in bytes.
    """
    try:
        _check("model", model, weights, size, 0)
    except ValueError as problem:
        return str(problem)
    return None


def _check(kind: str, message: bytes, weights: str | None, size: int, depth: int) -> None:
    if kind == "tensor":
        _check_tensor(message, weights, size)
        return
    if depth > limits.GRAPH_DEPTH:
        raise ValueError(f"more than {limits.GRAPH_DEPTH} graphs inside each other")
    known = _CHILDREN[kind]
    for number, _, value in fields(message):
        if (child := known.get(number)) is not None:
            _check(child, _bytes(value), weights, size, depth + (child == "graph"))


def _check_tensor(message: bytes, weights: str | None, size: int) -> None:
    found: dict[bytes, list[bytes]] = {}
    external = False
    for number, _, value in fields(message):
        external |= number == _DATA_LOCATION and value != 0
        if number == _EXTERNAL_DATA:
            entry = {key: _bytes(text) for key, _, text in fields(_bytes(value))}
            found.setdefault(entry.get(_KEY, b""), []).append(entry.get(_VALUE, b""))
    if not external and not found:
        return
    locations = found.get(b"location", [])
    if not locations:
        raise ValueError("a tensor is outside of the graph, but not in a file")
    for location in locations:
        if weights is None or location != weights.encode():
            raise ValueError(f"a tensor is in the file {location[:60]!r}, expected {weights!r}")
    places = [_whole(text) for key in (b"offset", b"length") for text in found.get(key, [])]
    offset = _whole(found.get(b"offset", [b"0"])[-1])
    length = _whole(found.get(b"length", [b"0"])[-1])
    if offset + length > size or max(places, default=0) > size:
        raise ValueError(f"a tensor's bytes {offset}+{length} are outside the file of {size} bytes")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"got the number {value} where a message or a name is expected")
    return value


def _whole(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise ValueError(f"got {digits[:60]!r}, expected a whole number of bytes")
    return int(digits)
