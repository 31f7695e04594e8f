// What one rendering of a chat template may do: templates are programs of strangers, and what they
// make their engine do is counted here, on the rendering's thread.
#pragma once

#include <jinja/value.h>

#include <cstddef>
#include <string>

namespace glass {

// Lets this thread render one template, while the object lives. Beyond it, and at calls that would
// take too much memory, a std::exception is thrown out of the rendering.
class TemplateBudget {
 public:
  // `input`: characters of the messages.
  explicit TemplateBudget(size_t input);
  ~TemplateBudget();

  // Whether the rendering ended because of it.
  bool exceeded() const;

  // Whether it ended for want of memory, which the engine's exceptions do not tell.
  bool out_of_memory() const;

  TemplateBudget(const TemplateBudget&) = delete;
  TemplateBudget& operator=(const TemplateBudget&) = delete;
};

namespace budget {

constexpr size_t kStepCost = 16;  // where else characters are counted

// Ends the rendering, or the reading of a template.
[[noreturn]] void refuse(const std::string& why);

void charge(size_t cost);

size_t left();

// Characters and items of a value and of all in it; looking at an item takes from the budget, too.
size_t measure(const jinja::value& value);

// Counts the size of a value that was made, and returns it.
jinja::value made(jinja::value value);

// The same of a list of items that are counted already.
jinja::value listed(jinja::value value);

// An object that the template can put into itself is taken apart at the end.
void keep(const jinja::value& value);

void note_no_memory();

// One more node of the program waits for others.
class Deeper {
 public:
  Deeper();
  ~Deeper();
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
};

}  // namespace budget
}  // namespace glass
