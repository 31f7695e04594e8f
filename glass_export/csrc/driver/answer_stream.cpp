#include "driver/answer_stream.h"

#include <algorithm>

namespace glass {
namespace {

// Bytes of the longest end of `text` with which `stop` begins, `stop` itself apart.
size_t overlap(const std::string& text, const std::string& stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.compare(text.size() - length, length, stop, 0, length) == 0) return length;
  }
  return 0;
}

}  // namespace

bool AnswerStream::close() {
  if (stopped_ || push(tokens_->flush())) return true;
  emit(held_);
  held_.clear();
  return false;
}

bool AnswerStream::push(const std::string& piece) {
  held_ += piece;
  size_t found = std::string::npos, keep = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    keep = std::max(keep, overlap(held_, stop));
  }
  if (found != std::string::npos) {
    emit(held_.substr(0, found));
    return stopped_ = true;
  }
  emit(held_.substr(0, held_.size() - keep));
  held_.erase(0, held_.size() - keep);
  return false;
}

void AnswerStream::emit(const std::string& piece) {
  if (piece.empty()) return;
  text_ += piece;
  if (send_) send_(piece);
}

}  // namespace glass
