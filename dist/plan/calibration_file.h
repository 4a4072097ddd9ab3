// Calibration files: JSON, made by nemo-bench --calibrate, read by --plan --calibration.
// configs/calibration/README.md describes the keys.
#pragma once

#include <string>

#include "dist/plan/calibration.h"

namespace nemo::dist {

/// Throws Error(kBadJob) naming file and key for what is missing, unknown, of another type or out of range.
Calibration load_calibration(const std::string& path);

/// The same from text; `where` names it in errors.
Calibration parse_calibration(const std::string& text, const std::string& where);

/// The file's text, ending in a newline. `source` is not in it.
std::string calibration_json(const Calibration& calibration);

}  // namespace nemo::dist
