// How deep a template is nested, told before it is parsed by functions that call themselves.
#pragma once

#include <jinja/lexer.h>

#include "driver/status.h"

namespace glass {

// Fails when more than kMostTemplateDepth blocks or brackets are inside each other, or one block
// has more than kMostTemplateChain words and signs.
Outcome check_nesting(const jinja::lexer_result& template_tokens);

}  // namespace glass
