"""The wire format of protocol buffers. Source: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}

Field = tuple[int, int, int | bytes]
"""Number, wire type, and the number or bytes that it holds."""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message. Raises ValueError where the bytes are none."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"a field without a number at byte {at}")
        if wire == VARINT:
            value, at = _read_varint(message, at)
            yield number, wire, value
            continue
        if wire == LENGTH:
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
            return value & (2**64 - 1), at + index + 1
    raise ValueError(f"a number without an end at byte {at}")


def encoded(message: Iterable[Field]) -> bytes:
    """The bytes of fields."""
    return b"".join(map(_encoded_field, message))


def _encoded_field(field: Field) -> bytes:
    number, wire, value = field
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return key + (_varint(len(value)) if wire == LENGTH else b"") + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes([*content, value])
