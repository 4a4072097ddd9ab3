// "Did you mean ...?": the known key closest to a mistyped one. Internal to lib/config.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// Fewest insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate closest to `word`, the first of several; nothing if all are too far away to be meant.
std::optional<std::string> nearest_key(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace nemo
