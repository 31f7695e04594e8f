// Limits on what a chat template can make its engine do: templates are programs of strangers.
#pragma once

#include <cstddef>
#include <exception>
#include <string>

#include "driver/status.h"

namespace jinja {
struct context;
struct program;
}  // namespace jinja

namespace glass {

// The program of a template, made so that it counts what it does: run it inside a TemplateBudget.
// Fails when the source is no Jinja that the engine knows, has more bytes, or more words and signs
// inside each other, than the limits say, or uses what no chat template needs.
Outcome parse_template(const std::string& source, jinja::program& program);

// Throws std::bad_alloc where it was behind what the engine threw, which hands exceptions on as
// texts: no memory must not look like a refusal. A text that is empty had no memory itself.
void pass_on_no_memory(const std::exception& problem);

// Puts the engine's functions that could take too much memory into a rendering's variables, in a
// form that looks before.
void limit_functions(jinja::context& context);

// What one rendering may do on this thread, while the object lives. Beyond it, and at calls that
// would take too much memory, the engine's std::exception is thrown out of the rendering.
class TemplateBudget {
 public:
  // `input`: characters of the messages.
  explicit TemplateBudget(size_t input);
  ~TemplateBudget();

  // Whether the rendering ended because of it.
  bool exceeded() const;

  TemplateBudget(const TemplateBudget&) = delete;
  TemplateBudget& operator=(const TemplateBudget&) = delete;
};

}  // namespace glass
