// Turns MPI's return codes into Error. For the sources of dist/comm only.
#pragma once

#include <mpi.h>

#include <array>
#include <string>
#include <string_view>

#include "kernels/error.h"

namespace nemo::dist {

inline void mpi_check(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(what, std::string(text.data(), static_cast<size_t>(length)),
              "see mpirun's output for the cause");
}

}  // namespace nemo::dist
