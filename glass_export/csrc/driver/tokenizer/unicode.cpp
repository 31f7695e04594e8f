#include "driver/tokenizer/unicode.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

namespace glass {
namespace {

struct Decomposition {
  char32_t whole, first, second;
  int composes;
};

struct CombiningRange {
  char32_t first, last;
  int value;
};

#include "driver/tokenizer/nfc_tables.inc"

// Hangul syllables are computed (Unicode 3.12).
constexpr char32_t kSyllable = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28, kSyllables = kLeads * kVowels * kTails;

struct Progress {
  int length;      // of a character with this first byte; 0 when there is none
  size_t fitting;  // bytes of the text that fit it so far
};

// How far the text goes on like one UTF-8 character (RFC 3629, section 4).
Progress follow(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, 1};
  const int length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (length == 0) return {0, 1};
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t fitting = 1;
  while (fitting < static_cast<size_t>(length) && fitting < text.size()) {
    if (byte(fitting) < low || byte(fitting) > high) break;
    low = 0x80;
    high = 0xBF;
    ++fitting;
  }
  return {length, fitting};
}

int combining_class(char32_t character) {
  const auto* range =
      std::lower_bound(std::begin(kCombiningRanges), std::end(kCombiningRanges), character,
                       [](const CombiningRange& r, char32_t c) { return r.last < c; });
  return range != std::end(kCombiningRanges) && range->first <= character ? range->value : 0;
}

void decompose(char32_t character, std::u32string& out) {
  if (character >= kSyllable && character < kSyllable + kSyllables) {
    const char32_t index = character - kSyllable;
    out += kLead + index / (kVowels * kTails);
    out += kVowel + index / kTails % kVowels;
    if (index % kTails != 0) out += kTail + index % kTails;
    return;
  }
  const auto* entry =
      std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions), character,
                       [](const Decomposition& d, char32_t c) { return d.whole < c; });
  if (entry == std::end(kDecompositions) || entry->whole != character) {
    out += character;
    return;
  }
  decompose(entry->first, out);
  if (entry->second != 0) decompose(entry->second, out);
}

using Pairs = std::unordered_map<uint64_t, char32_t>;

uint64_t pair_key(char32_t first, char32_t second) { return uint64_t{first} << 32 | second; }

Pairs composable_pairs() {
  Pairs pairs;
  for (const Decomposition& entry : kDecompositions) {
    if (entry.composes) pairs.emplace(pair_key(entry.first, entry.second), entry.whole);
  }
  return pairs;
}

// The character that two compose to, or 0.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLead && first < kLead + kLeads && second >= kVowel && second < kVowel + kVowels) {
    return kSyllable + ((first - kLead) * kVowels + (second - kVowel)) * kTails;
  }
  const bool open =
      first >= kSyllable && first < kSyllable + kSyllables && (first - kSyllable) % kTails == 0;
  if (open && second > kTail && second < kTail + kTails) return first + (second - kTail);
  static const Pairs pairs = composable_pairs();
  const auto found = pairs.find(pair_key(first, second));
  return found == pairs.end() ? 0 : found->second;
}

void order_marks(std::u32string& text) {
  for (auto start = text.begin(); start != text.end();) {
    const auto is_starter = [](char32_t c) { return combining_class(c) == 0; };
    start = std::find_if_not(start, text.end(), is_starter);
    const auto stop = std::find_if(start, text.end(), is_starter);
    std::stable_sort(start, stop, [](char32_t a, char32_t b) {
      return combining_class(a) < combining_class(b);
    });
    start = stop;
  }
}

std::u32string compose(const std::u32string& text) {
  std::u32string out;
  size_t starter = std::u32string::npos;
  int last_class = 0;  // of the last character after the starter; 0 when that is the starter
  for (const char32_t character : text) {
    const int value = combining_class(character);
    const bool adjacent = starter != out.npos && starter + 1 == out.size();
    if (starter != out.npos && (adjacent || last_class < value)) {
      if (const char32_t whole = composed(out[starter], character)) {
        out[starter] = whole;
        continue;
      }
    }
    if (value == 0) starter = out.size();
    last_class = value;
    out += character;
  }
  return out;
}

}  // namespace

int utf8_length(std::string_view text) {
  const Progress progress = follow(text);
  if (progress.length == static_cast<int>(progress.fitting)) return progress.length;
  return progress.length != 0 && progress.fitting == text.size() ? 0 : -1;
}

size_t utf8_broken_length(std::string_view text) { return follow(text).fitting; }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const int length = utf8_length(text);
    if (length <= 0) return false;
    text.remove_prefix(static_cast<size_t>(length));
  }
  return true;
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const auto length = static_cast<size_t>(utf8_length(text));
    char32_t character = static_cast<unsigned char>(text[0]);
    if (length > 1) character &= 0x7Fu >> length;
    for (size_t i = 1; i < length; ++i) {
      character = character << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
    }
    out += character;
    text.remove_prefix(length);
  }
  return out;
}

void append_utf8(char32_t character, std::string& text) {
  if (character < 0x80) {
    text += static_cast<char>(character);
    return;
  }
  const int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  constexpr char32_t kLeadBytes[] = {0, 0xC0, 0xE0, 0xF0};  // by how many bytes follow
  text += static_cast<char>(kLeadBytes[more] | character >> (6 * more));
  for (int i = more - 1; i >= 0; --i) {
    text += static_cast<char>(0x80 | (character >> (6 * i) & 0x3F));
  }
}

std::string nfc(std::string_view text) {
  const std::u32string characters = decode_utf8(text);
  const auto simple = [](char32_t c) { return c < 0x300; };  // composed, and no combining mark
  if (std::all_of(characters.begin(), characters.end(), simple)) return std::string(text);
  std::u32string parts;
  for (const char32_t character : characters) decompose(character, parts);
  order_marks(parts);
  std::string out;
  for (const char32_t character : compose(parts)) append_utf8(character, out);
  return out;
}

}  // namespace glass
