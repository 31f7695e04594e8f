// Calls of the template engine's own functions, looked at before they are made.
#pragma once

#include <jinja/runtime.h>

#include <string>
#include <vector>

namespace glass {

// Whether a function looks at no more than the items of a list, and makes no more of them.
bool is_shallow(const std::string& name);

// Bytes of a text; 0 of other values.
size_t length_of(const jinja::value& value);

// Refuses a call of the engine that would make or move too much; `arguments` begin with the object
// that the function belongs to.
void check_call(const std::string& name, const std::vector<jinja::value>& arguments);

// Puts the engine's functions that could take too much memory into a rendering's variables, in a
// form that looks before.
void limit_functions(jinja::context& context);

}  // namespace glass
