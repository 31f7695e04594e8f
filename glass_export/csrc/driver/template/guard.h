// Chat templates as programs that count what they do.
#pragma once

#include <exception>
#include <string>

#include "driver/status.h"

namespace jinja {
struct program;
}  // namespace jinja

namespace glass {

// The program of a template, made so that it counts what it does: run it inside a TemplateBudget.
// Fails when the source is no Jinja that the engine knows, has more bytes, or more words and signs
// inside each other, than the limits say, or uses what no chat template needs.
Outcome parse_template(const std::string& source, jinja::program& program);

// What an exception of the engine says, in a line. Throws std::bad_alloc when that is missing, as
// there was no memory for it then. Renderings must have no source (jinja::context("")): the engine
// looks up in it where a node is, which not all nodes know.
std::string engine_message(const std::exception& problem);

}  // namespace glass
