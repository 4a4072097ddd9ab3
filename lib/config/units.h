// Sizes and durations as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace nemo {

/// Bytes of "20GiB", "1.5 TB", "4096" (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), or nothing. A lone "G" is
/// nothing: it may mean either.
std::optional<int64_t> parse_size(std::string_view text);

/// Seconds of "2h30m", "90s", "1.5h", "90" (d, h, m, s from large to small), or nothing.
std::optional<double> parse_duration(std::string_view text);

}  // namespace nemo
