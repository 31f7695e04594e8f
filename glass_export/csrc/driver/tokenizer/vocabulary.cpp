#include "driver/tokenizer/vocabulary.h"

#include <functional>
#include <utility>

namespace glass {
namespace {

// Steps from where a key belongs to where it is. Of 250,000 honest ones the longest way is some
// hundred; keys made for it would make every way as long as the table.
constexpr size_t kMostSteps = 1024;

// A power of two that leaves a third of the slots free.
size_t slots_for(size_t count) {
  size_t slots = 16;
  while (slots < count + count / 2) slots *= 2;
  return slots;
}

uint32_t hash_of(std::string_view token) {
  const uint64_t hash = std::hash<std::string_view>()(token);
  return static_cast<uint32_t>(hash ^ (hash >> 32));
}

}  // namespace

void Vocabulary::add(std::string_view token, int32_t id) {
  if (slots_for(entries_.size() + 1) > slots_.size()) grow(entries_.size() + 1);
  if (crowded_) return;
  const uint32_t hash = hash_of(token);
  size_t steps = 0;
  int32_t& slot = slots_[slot_of(token, hash, steps)];
  crowded_ = steps > kMostSteps;
  if (slot < 0) {
    slot = static_cast<int32_t>(entries_.size());
    entries_.push_back(
        {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size()), hash, id});
    text_.append(token);
  } else {
    by_id_[static_cast<size_t>(entries_[slot].id)] = -1;
    entries_[slot].id = id;
  }
  if (static_cast<size_t>(id) >= by_id_.size()) by_id_.resize(static_cast<size_t>(id) + 1, -1);
  by_id_[static_cast<size_t>(id)] = slot;
}

int64_t Vocabulary::id(std::string_view token) const {
  if (slots_.empty()) return -1;
  size_t steps = 0;
  const int32_t entry = slots_[slot_of(token, hash_of(token), steps)];
  return entry < 0 ? -1 : entries_[entry].id;
}

std::optional<std::string_view> Vocabulary::token(int64_t id) const {
  if (id < 0 || id >= static_cast<int64_t>(by_id_.size())) return std::nullopt;
  const int32_t entry = by_id_[static_cast<size_t>(id)];
  if (entry < 0) return std::nullopt;
  return text_of(entries_[entry]);
}

std::string_view Vocabulary::text_of(const Entry& entry) const {
  return std::string_view(text_).substr(entry.start, entry.length);
}

// The slot that holds the token, or the free one where it belongs.
size_t Vocabulary::slot_of(std::string_view token, uint32_t hash, size_t& steps) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  for (; slots_[slot] >= 0; slot = (slot + 1) & mask, ++steps) {
    const Entry& entry = entries_[slots_[slot]];
    if (entry.hash == hash && text_of(entry) == token) break;
  }
  return slot;
}

void Vocabulary::grow(size_t count) {
  slots_.assign(slots_for(count), -1);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size() && !crowded_; ++i) {
    size_t slot = entries_[i].hash & mask, steps = 0;
    for (; slots_[slot] >= 0; ++steps) slot = (slot + 1) & mask;
    crowded_ = steps > kMostSteps;
    slots_[slot] = static_cast<int32_t>(i);
  }
}

void Merges::reserve(size_t count) {
  if (slots_for(count) <= slots_.size()) return;
  std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(slots_for(count)));
  for (const Slot& slot : before) {
    size_t steps = 0;
    if (slot.first >= 0 && !crowded_) slots_[slot_of(slot.first, slot.second, steps)] = slot;
    crowded_ |= steps > kMostSteps;
  }
}

void Merges::add(int32_t first, int32_t second, Merge merge) {
  if (crowded_) return;
  reserve(count_ + 1);
  size_t steps = 0;
  Slot& slot = slots_[slot_of(first, second, steps)];
  crowded_ |= steps > kMostSteps;
  count_ += slot.first < 0;
  slot = {first, second, merge};
}

const Merge* Merges::find(int32_t first, int32_t second) const {
  if (slots_.empty()) return nullptr;
  size_t steps = 0;
  const Slot& slot = slots_[slot_of(first, second, steps)];
  return slot.first < 0 ? nullptr : &slot.merge;
}

size_t Merges::slot_of(int32_t first, int32_t second, size_t& steps) const {
  const uint64_t pair =
      uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
  const size_t mask = slots_.size() - 1;
  size_t slot = static_cast<size_t>((pair * 0x9e3779b97f4a7c15u) >> 32) & mask;
  while (slots_[slot].first >= 0 &&
         (slots_[slot].first != first || slots_[slot].second != second)) {
    slot = (slot + 1) & mask;
    ++steps;
  }
  return slot;
}

}  // namespace glass
