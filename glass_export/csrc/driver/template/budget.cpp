#include "driver/template/budget.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "driver/limits.h"

namespace glass {
namespace {

constexpr size_t kInputFactor = 64;     // of the budget, for each character of the messages
constexpr size_t kMostCallDepth = 200;  // nodes of the program that wait for others
constexpr size_t kMostValueDepth = 64;  // lists and objects inside each other

struct Work {
  size_t left = 0;
  size_t depth = 0;
  bool exceeded = false;
  bool out_of_memory = false;
  std::vector<jinja::value> objects;  // that a template can put into themselves
};

thread_local Work* work = nullptr;  // of the rendering on this thread

size_t measure_at(const jinja::value& value, size_t depth) {
  if (depth > kMostValueDepth) budget::refuse("its values are nested too deep");
  if (depth > 0) budget::charge(1);
  size_t size = 1;
  if (jinja::is_val<jinja::value_string>(value)) {
    size += value->val_str.length() + value->val_str.parts.size();
  }
  for (const jinja::value& item : value->val_arr) size += measure_at(item, depth + 1);
  for (const auto& [key, item] : value->val_obj) size += 1 + measure_at(item, depth + 1);
  if (size > work->left) budget::refuse("its values are too large");
  return size;
}

}  // namespace

namespace budget {

void refuse(const std::string& why) {
  if (work != nullptr) work->exceeded = true;
  throw std::runtime_error(why);
}

void charge(size_t cost) {
  if (work == nullptr || work->left < cost) refuse("it does more than a chat template needs");
  work->left -= cost;
}

size_t left() { return work->left; }

size_t measure(const jinja::value& value) { return measure_at(value, 0); }

jinja::value made(jinja::value value) {
  charge(measure(value));
  return value;
}

jinja::value listed(jinja::value value) {
  if (!jinja::is_val<jinja::value_array>(value)) return made(std::move(value));
  charge(1 + value->val_arr.size());
  return value;
}

void keep(const jinja::value& value) {
  if (jinja::is_val<jinja::value_object>(value)) work->objects.push_back(value);
}

void note_no_memory() {
  if (work != nullptr) work->out_of_memory = true;
}

Deeper::Deeper() {
  charge(kStepCost);
  if (++work->depth > kMostCallDepth) {
    --work->depth;
    refuse("it calls itself too often");
  }
}

Deeper::~Deeper() { --work->depth; }

}  // namespace budget

TemplateBudget::TemplateBudget(size_t input) {
  delete std::exchange(work, new Work);
  work->left = kMostTemplateWork + kInputFactor * input;
}

bool TemplateBudget::exceeded() const { return work->exceeded; }

bool TemplateBudget::out_of_memory() const { return work->out_of_memory; }

TemplateBudget::~TemplateBudget() {
  for (const jinja::value& object : work->objects) object->val_obj.clear();
  delete std::exchange(work, nullptr);
}

}  // namespace glass
