// The line of OpenAI's batch response form for one record.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "lib/output/json_line.h"
#include "lib/request/request.h"

namespace nemo {

/// Appends {"id", "custom_id", "response", "error"} for a record whose form is chat or completion. `created`
/// is 0 and ids are made from the index, because the bytes must not depend on time. `token_bytes` may be
/// empty: tokens are then named "token_id:<id>".
void append_openai_line(JsonLine& json, const Record& record, const std::string& model,
                        const std::function<std::string(int32_t)>& token_bytes);

}  // namespace nemo
