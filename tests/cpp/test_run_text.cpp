// Encodes and decodes for test_run.py: `test_run_text DIR`, then a line for each request on
// standard input, answered by a line on standard output.
//
//   encode HEX-OF-UTF8 -> the token ids
//   decode ID...       -> the pieces of the text in hex; joined they are the text
//   render TURN...     -> the text of a conversation in hex; a turn is ROLE:HEX-OF-UTF8
//   chat TURN...       -> its token ids, each with its weight: ID*WEIGHT
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "driver/text.h"

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

void encode(const glass::TextCodec& codec, std::istream& words) {
  std::string digits;
  words >> digits;
  const auto encoded = codec.encode(from_hex(digits));
  if (!encoded) std::printf("failed: %s", encoded.failure().message.c_str());
  if (!encoded) return;
  for (const int64_t token : encoded->tokens) std::printf("%lld ", static_cast<long long>(token));
}

std::vector<glass::Message> read_messages(std::istream& words) {
  std::vector<glass::Message> messages;
  for (std::string word; words >> word;) {
    const size_t colon = word.find(':');
    messages.push_back({word.substr(0, colon), from_hex(word.substr(colon + 1))});
  }
  return messages;
}

void render(const glass::TextCodec& codec, std::istream& words) {
  const auto text = codec.render(read_messages(words));
  if (text) print_hex(*text);
  if (!text) std::printf("failed: %s", text.failure().message.c_str());
}

void chat(const glass::TextCodec& codec, std::istream& words) {
  const auto encoded = codec.encode(read_messages(words));
  if (!encoded) std::printf("failed: %s", encoded.failure().message.c_str());
  if (!encoded) return;
  for (size_t i = 0; i < encoded->tokens.size(); ++i) {
    std::printf("%lld*%g ", static_cast<long long>(encoded->tokens[i]), encoded->weights[i]);
  }
}

void decode(const glass::TextCodec& codec, std::istream& words) {
  const auto stream = codec.stream();
  for (int64_t token; words >> token;) print_hex(stream->step(token));
  print_hex(stream->flush());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  glass::Artifact artifact;
  artifact.directory = arguments[1];
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    const std::string path = artifact.directory + "/" + name;
    if (std::ifstream(path)) artifact.files.push_back({name, 0, ""});
  }
  const auto codec = glass::open_text_codec(artifact);
  if (!codec) {
    std::cerr << codec.failure().message << '\n';
    return 1;
  }
  for (std::string line, request; std::getline(std::cin, line);) {
    std::istringstream words(line);
    words >> request;
    if (request == "encode") encode(**codec, words);
    if (request == "decode") decode(**codec, words);
    if (request == "render") render(**codec, words);
    if (request == "chat") chat(**codec, words);
    std::printf("\n");
  }
  return 0;
}
