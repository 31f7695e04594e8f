// Nodes that are put into a template's program and count what it does, within a TemplateBudget.
#pragma once

#include <jinja/runtime.h>

#include <string>
#include <utility>

namespace glass {

// At the start of what may run often.
struct Step final : jinja::statement {
  explicit Step(size_t given) : cost(given) { pos = 0; }
  jinja::value execute_impl(jinja::context&) const override;
  size_t cost;
};

// A node of the engine. Notes when it has no memory: the engine puts its own exceptions in the place
// of all others. Of use for every node that is executed and is none of those below.
struct Watched final : jinja::expression {
  explicit Watched(jinja::statement_ptr given) : inner(std::move(given)) { pos = inner->pos; }
  jinja::value execute_impl(jinja::context& context) const override;
  jinja::statement_ptr inner;
};

// An expression of the engine, counted and watched.
struct Guarded : jinja::expression {
  explicit Guarded(jinja::statement_ptr given) : inner(std::move(given)) { pos = inner->pos; }
  jinja::value execute_impl(jinja::context& context) const final;
  jinja::statement_ptr inner;

 protected:
  virtual jinja::value run(jinja::context& context) const = 0;
};

// What reads values that are there.
struct Read final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

// What makes lists and objects.
struct Literal final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

// What is written into the text.
struct Output final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

struct Binary final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

struct Unary final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

// A call of a function or method.
struct Call final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

struct Filter final : Guarded {
  using Guarded::Guarded;

 protected:
  jinja::value run(jinja::context& context) const override;
};

}  // namespace glass
