// Goals that speak of several kernels: what part of a whole some of them take, at Super's width.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace nemo::bench {

struct Share {
  std::string name;
  double fraction = 0;
  double goal = 0;  ///< at most
};

/// `microseconds` gives the time of the case of that name (tests/bench/cases.h).
std::vector<Share> shares_of(const std::function<double(const std::string&)>& microseconds);

}  // namespace nemo::bench
