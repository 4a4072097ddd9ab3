// The body of an OpenAI batch line: the object that the live endpoint takes.
#pragma once

#include <string_view>

#include "lib/text/input_line.h"

namespace nemo {

/// Reads `body` (valid JSON) into `line`: form, content and sampling. `url` is the line's, or empty. What a
/// body can ask for and we do not do is refused by name. Throws TextError.
void read_openai_body(std::string_view body, std::string_view url, InputLine& line);

}  // namespace nemo
