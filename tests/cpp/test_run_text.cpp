// Encodes and decodes for test_run.py: `test_run_text DIR`, then a line for each request on
// standard input, answered by a line on standard output.
//
//   encode HEX-OF-UTF8 -> the token ids
//   decode ID...       -> the pieces of the text in hex; joined they are the text
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include "run/text.h"

namespace {

std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

void print_hex(const std::string& bytes) {
  for (const char byte : bytes) std::printf("%02x", static_cast<unsigned char>(byte));
  std::printf(" ");
}

void encode(const glass::run::TextCodec& codec, std::istream& words) {
  std::string digits;
  words >> digits;
  const auto tokens = codec.encode(from_hex(digits));
  if (!tokens) std::printf("failed: %s", tokens.failure().message.c_str());
  if (!tokens) return;
  for (const int64_t token : *tokens) std::printf("%lld ", static_cast<long long>(token));
}

void decode(const glass::run::TextCodec& codec, std::istream& words) {
  const auto stream = codec.stream();
  for (int64_t token; words >> token;) print_hex(stream->step(token));
  print_hex(stream->flush());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const auto codec = glass::run::open_text_codec(arguments[1]);
  if (!codec) {
    std::cerr << codec.failure().message << '\n';
    return 1;
  }
  for (std::string line, request; std::getline(std::cin, line);) {
    std::istringstream words(line);
    words >> request;
    (request == "encode" ? encode : decode)(**codec, words);
    std::printf("\n");
  }
  return 0;
}
