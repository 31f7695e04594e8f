"""Read metadata of an ONNX file and change its sizes, without the package ``onnx``.

ONNX Runtime takes the sizes of a matrix product with integer weights from attributes, so a graph
for fewer neurons is another file. This rewrites the few fields that differ.

Source: onnx.proto of ONNX 1.19.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from glass_export import protobuf
from glass_export.errors import ArtifactCode, ArtifactError

Attributes = Mapping[str, int]
"""Integer attributes of a node by name."""

# Field numbers of ModelProto, StringStringEntryProto, GraphProto, NodeProto, AttributeProto and
# TensorProto.
_GRAPH, _METADATA = 7, 14
_KEY, _VALUE = 1, 2
_NODE, _INITIALIZER = 1, 5
_INPUT, _ATTRIBUTE = 1, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_DIMS, _TENSOR_NAME = 1, 8


def metadata(model: bytes) -> dict[str, str]:
    """What a model says of itself, the entries ``metadata_props``.

    Args:
        model: A ModelProto.

    Raises:
        ArtifactError: not a model.
    """
    try:
        entries = [
            list(protobuf.fields(value))
            for number, _, value in protobuf.fields(model)
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
        fields = list(protobuf.fields(content))
        name = _text(fields, _TENSOR_NAME)
        missing.discard(name)
        return _with_dims(fields, shapes[name]) if name in shapes else content

    def node(content: bytes) -> bytes:
        read = [
            _decoded(value) for number, _, value in protobuf.fields(content) if number == _INPUT
        ]
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
            f"the graph has no initializer {', '.join(sorted(missing))}; export the model again",
            ArtifactCode.GRAPH,
        )
    return changed


def _no_model(problem: ValueError) -> ArtifactError:
    return ArtifactError(
        f"not an ONNX model: {problem}; export the model again", ArtifactCode.GRAPH
    )


def _with_dims(fields: list[protobuf.Field], shape: Sequence[int]) -> bytes:
    """A TensorProto of another shape."""
    dims: list[protobuf.Field] = [(_DIMS, protobuf.VARINT, size) for size in shape]
    return protobuf.encoded([*dims, *(field for field in fields if field[0] != _DIMS)])


def _with_int(content: bytes, wanted: Attributes) -> bytes:
    """An AttributeProto whose value is the wanted one, if there is one for its name."""
    fields = list(protobuf.fields(content))
    name = _text(fields, _ATTRIBUTE_NAME)
    if name not in wanted:
        return content
    others = [field for field in fields if field[0] != _ATTRIBUTE_INT]
    return protobuf.encoded([*others, (_ATTRIBUTE_INT, protobuf.VARINT, wanted[name])])


def _mapped(message: bytes, changes: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """A message whose submessages with these field numbers are changed."""
    return protobuf.encoded(
        (number, wire, changes[number](value))
        if number in changes and isinstance(value, bytes)
        else (number, wire, value)
        for number, wire, value in protobuf.fields(message)
    )


def _text(fields: list[protobuf.Field], number: int) -> str:
    return next((_decoded(value) for key, _, value in fields if key == number), "")


def _decoded(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ValueError(f"got the number {value} where a name is expected")
    return value.decode()
