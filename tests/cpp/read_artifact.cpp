// Reads artifacts as far as no engine is needed, for tests/unit/test_attacks.py: `read_artifact DIR`
// prints "ok", or the code of what is wrong and the message.
#include <cstdio>
#include <string>
#include <vector>

#include "driver/artifact.h"
#include "driver/priors.h"
#include "driver/text.h"

namespace {

glass::Outcome read(const std::string& directory) {
  const glass::Result<glass::Artifact> artifact = glass::Artifact::open(directory);
  if (!artifact) return artifact.failure();
  if (glass::Outcome sound = artifact->check_hashes(nullptr); !sound) return sound;
  glass::Priors priors(artifact->model.rows(), artifact->model.d_ff);
  const std::string prior = artifact->file("prior.safetensors");
  if (glass::Outcome read = priors.load(prior, artifact->statistics); !read) return read;
  const auto codec = glass::open_text_codec(*artifact);
  if (!codec) return codec.failure();
  const auto encoded = (*codec)->encode({glass::Message{"user", std::string(64, 'a') + " Hello"}});
  if (!encoded) return encoded.failure();
  const auto stream = (*codec)->stream();
  for (const int64_t token : encoded->tokens) (void)stream->step(token);
  return glass::Done{};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const glass::Outcome outcome = read(arguments[1]);
  if (outcome) {
    std::printf("ok\n");
    return 0;
  }
  const glass::Failure& failure = outcome.failure();
  std::printf("%s %s\n", glass::artifact_code_name(failure.artifact), failure.message.c_str());
  return 1;
}
