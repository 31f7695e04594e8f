"""From tokens to streamed text: whole characters only, and stop strings never shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Decodes token by token; the pieces joined are the decoded whole.

    A piece is held back while it may still change: while it ends inside a UTF-8 character, and
    within a run of byte tokens, which a tokenizer with byte fallback decodes only as a whole. Each
    piece is the difference of two decodings that start at the piece before it, so that decoders
    which treat the first token apart (a leading space, say) cannot tell.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []  # tokens of the last piece, then those not shown yet
        self._shown = 0  # how many of the window's tokens have been shown
        self._prefix = ""  # what the shown ones decode to
        self._text = ""  # what the whole window decodes to

    def step(self, token: int) -> str:
        """Add a token; returns the text that is now certain, which may be empty."""
        self._window.append(token)
        name = self._tokenizer.id_to_token(token) or ""
        before, self._text = self._text, self._decode(self._window)
        silent = self._text == before  # such as a special token, which does not end a run of bytes
        if silent or self._text.endswith(_REPLACEMENT) or _BYTE_TOKEN.fullmatch(name):
            return ""
        return self._advance()

    def flush(self) -> str:
        """The text still held back, at the end of the stream."""
        return self._advance()

    def _advance(self) -> str:
        piece = self._text[len(self._prefix) :]
        if piece:
            self._window = self._window[self._shown :]
            self._shown = len(self._window)
            self._prefix = self._text = self._decode(self._window)
        return piece

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class TextStream:
    """Collects the answer's text, sends it on in pieces, and watches for stop strings."""

    def __init__(
        self,
        detokenizer: Detokenizer,
        stop: Sequence[str] = (),
        send: Callable[[str], None] | None = None,
    ) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._send = send
        self._held = ""
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """What has been sent so far."""
        return "".join(self._pieces)

    def write(self, token: int) -> bool:
        """Add a token. Returns True when a stop string ends the text before or in it."""
        return self._push(self._detokenizer.step(token))

    def close(self) -> bool:
        """Send what was held back. Returns True when a stop string was in it."""
        if self._push(self._detokenizer.flush()):
            return True
        self._emit(self._held)
        self._held = ""
        return False

    def _push(self, piece: str) -> bool:
        self._held += piece
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self._emit(self._held[: min(found)])
            return True
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        certain = len(self._held) - keep
        self._emit(self._held[:certain])
        self._held = self._held[certain:]
        return False

    def _emit(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            if self._send is not None:
                self._send(piece)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` with which ``stop`` begins, ``stop`` itself apart."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
