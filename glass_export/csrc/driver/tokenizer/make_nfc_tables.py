"""Writes nfc_tables.inc from Python's Unicode database: make_nfc_tables.py > nfc_tables.inc."""

import sys
import unicodedata
from itertools import groupby


def main() -> None:
    """Canonical decompositions of one level, and ranges of canonical combining classes."""
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    print(f"// Unicode {unicodedata.unidata_version}; written by make_nfc_tables.py.")
    print(
        "// Character, its canonical decomposition (0: only one character), whether that composes."
    )
    print("constexpr Decomposition kDecompositions[] = {")
    for character in characters:
        mapping = unicodedata.decomposition(character)
        if mapping and not mapping.startswith("<"):
            first, second = [*mapping.split(), "0"][:2]
            composes = unicodedata.normalize("NFC", character) == character
            print(f"{{0x{ord(character):X},0x{first},0x{second},{int(composes)}}},")
    print("};")
    print("// First and last character of a range, and their canonical combining class.")
    print("constexpr CombiningRange kCombiningRanges[] = {")
    for value, group in groupby(characters, unicodedata.combining):
        if value:
            members = list(group)
            print(f"{{0x{ord(members[0]):X},0x{ord(members[-1]):X},{value}}},")
    print("};")


if __name__ == "__main__":
    main()
