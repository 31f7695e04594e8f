"""Read metadata of an ONNX file and change its sizes, without the package ``onnx``.

ONNX Runtime takes the sizes of a matrix product with integer weights from attributes, so a graph
for fewer neurons is another file. This rewrites the few fields that differ.

Source: onnx.proto of ONNX 1.19; https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from glass_export.errors import ArtifactError

Attributes = Mapping[str, int]
"""Integer attributes of a node by name."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}

# Field numbers of ModelProto, StringStringEntryProto, GraphProto, NodeProto, AttributeProto and
# TensorProto.
_GRAPH, _METADATA = 7, 14
_KEY, _VALUE = 1, 2
_NODE, _INITIALIZER = 1, 5
_INPUT, _ATTRIBUTE = 1, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_DIMS, _TENSOR_NAME = 1, 8

_Field = tuple[int, int, int | bytes]
"""Number, wire type, and the number or bytes that it holds."""


def metadata(model: bytes) -> dict[str, str]:
    """What a model says of itself, the entries ``metadata_props``.

    Args:
        model: A ModelProto.

    Raises:
        ArtifactError: not a model.
    """
    try:
        entries = [
            list(_fields(value))
            for number, _, value in _fields(model)
            if number == _METADATA and isinstance(value, bytes)
        ]
        return {_text(fields, _KEY): _text(fields, _VALUE) for fields in entries}
    except ValueError as problem:
        raise _no_model(problem) from problem


def resized(
    model: bytes, shapes: Mapping[str, Sequence[int]], attributes: Mapping[str, Attributes]
) -> bytes:
    """The same model with other shapes of initializers, and other attributes of their readers.

    Args:
        model: A ModelProto.
        shapes: New shapes by initializer.
        attributes: New integer attributes, by an initializer that their nodes read.

    Raises:
        ArtifactError: not a model, or it has no such initializer.
    """
    missing = set(shapes)

    def tensor(content: bytes) -> bytes:
        fields = list(_fields(content))
        name = _text(fields, _TENSOR_NAME)
        missing.discard(name)
        return _with_dims(fields, shapes[name]) if name in shapes else content

    def node(content: bytes) -> bytes:
        read = [_decoded(value) for number, _, value in _fields(content) if number == _INPUT]
        wanted = {k: v for name in read for k, v in attributes.get(name, {}).items()}
        change = {_ATTRIBUTE: lambda attribute: _with_int(attribute, wanted)}
        return _mapped(content, change) if wanted else content

    def graph(content: bytes) -> bytes:
        return _mapped(content, {_NODE: node, _INITIALIZER: tensor})

    try:
        changed = _mapped(model, {_GRAPH: graph})
    except ValueError as problem:
        raise _no_model(problem) from problem
    if missing:
        raise ArtifactError(
            f"the graph has no initializer {', '.join(sorted(missing))}; export the model again"
        )
    return changed


def _no_model(problem: ValueError) -> ArtifactError:
    return ArtifactError(f"not an ONNX model: {problem}; export the model again")


def _with_dims(fields: list[_Field], shape: Sequence[int]) -> bytes:
    """A TensorProto of another shape."""
    dims: list[_Field] = [(_DIMS, _VARINT, size) for size in shape]
    return _encoded([*dims, *(field for field in fields if field[0] != _DIMS)])


def _with_int(content: bytes, wanted: Attributes) -> bytes:
    """An AttributeProto whose value is the wanted one, if there is one for its name."""
    fields = list(_fields(content))
    name = _text(fields, _ATTRIBUTE_NAME)
    if name not in wanted:
        return content
    others = [field for field in fields if field[0] != _ATTRIBUTE_INT]
    return _encoded([*others, (_ATTRIBUTE_INT, _VARINT, wanted[name])])


def _mapped(message: bytes, changes: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """A message whose submessages with these field numbers are changed."""
    return _encoded(
        (number, wire, changes[number](value))
        if number in changes and isinstance(value, bytes)
        else (number, wire, value)
        for number, wire, value in _fields(message)
    )


def _text(fields: list[_Field], number: int) -> str:
    return next((_decoded(value) for key, _, value in fields if key == number), "")


def _decoded(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ValueError(f"got the number {value} where a name is expected")
    return value.decode()


def _fields(message: bytes) -> Iterator[_Field]:
    """The fields of a message. Raises ValueError where the bytes are none."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _read_varint(message, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            size, at = _read_varint(message, at)
        elif wire in _WIDTHS:
            size = _WIDTHS[wire]
        else:
            raise ValueError(f"unknown wire type {wire} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes ends behind its message")
        yield number, wire, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next field begins."""
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, at + index + 1
    raise ValueError(f"a number without an end at byte {at}")


def _encoded(fields: Iterable[_Field]) -> bytes:
    return b"".join(map(_encoded_field, fields))


def _encoded_field(field: _Field) -> bytes:
    number, wire, value = field
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return key + (_varint(len(value)) if wire == _LENGTH else b"") + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])
