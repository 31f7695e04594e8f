"""Most that a reader takes of an artifact, so that a hostile one costs no more than an honest one.

The table of ``artifacts/README.md``; the same as ``csrc/driver/limits.h``.
"""

from __future__ import annotations

MANIFEST_BYTES = 4 << 20
CHECKSUM_BYTES = 256
JSON_DEPTH = 64
JSON_ITEMS = 262144
"""Values of glass.json."""
FILES = 1024
PATH_BYTES = 255
SIZE = 2**31 - 1
"""Of a dimension or of the context."""
GRAPH_BYTES = 64 << 20
GRAPH_DEPTH = 16
"""Graphs inside of graphs."""
PRIOR_BYTES = 1 << 30
HEADER_BYTES = 1 << 20
"""Of a safetensors file."""
TOKENIZER_BYTES = 128 << 20
TOKEN_IDS = 1 << 22
ADDED_TOKENS = 16384
TEXT_GROWTH = 64
"""Bytes that the steps of a tokenizer make of one."""
CONFIG_BYTES = 16 << 20
"""Of tokenizer_config.json."""
PATTERN_BYTES = 4096
"""Of a regular expression."""
TEMPLATE_BYTES = 256 << 10
TEMPLATE_DEPTH = 64
"""Brackets and blocks inside each other."""
TEMPLATE_CHAIN = 256
"""Words and signs of one block of a template."""
TEMPLATE_WORK = 2_000_000
"""Characters and steps of one rendering."""
