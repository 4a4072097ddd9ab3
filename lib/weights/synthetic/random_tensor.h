// Random tensors as a checkpoint holds them. Every byte is a function of (seed, tensor, place): the same on
// any machine, in whatever pieces it is asked for. Internal to lib/weights/synthetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/weights/weight_source.h"

namespace nemo {

enum class Fill : uint8_t {
  kUniform,      ///< BF16 or F32: center + half_width * u, u uniform in (-1, 1)
  kFp8Codes,     ///< e4m3, uniform in (-448, 448)
  kNvfp4Pairs,   ///< two e2m1 codes a byte, all codes alike
  kBlockScales,  ///< e4m3, the eight values from 128 to 240
};

struct RandomTensor {
  std::string name;  ///< as it stands in the file
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  Fill fill = Fill::kUniform;
  double center = 0;
  double half_width = 0;
  uint64_t stream = 0;  ///< which random numbers: a different one for every tensor

  uint64_t num_bytes() const;
};

/// Root mean squares of what the fills of quantized matrices stand for, before the float scale.
double fp8_code_rms();
double nvfp4_value_rms();

/// fill_random works on multiples of this many bytes.
inline constexpr size_t kRandomGrain = 64;

/// Bytes [begin_byte, begin_byte + out.size()) of the tensor. `begin_byte` is a multiple of kRandomGrain, and
/// so is the size unless it reaches the tensor's end.
void fill_random(const RandomTensor& tensor, uint64_t seed, uint64_t begin_byte, std::span<std::byte> out);

}  // namespace nemo
