#include "lib/weights/synthetic/random_tensor.h"

#include <Random123/philox.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/error.h"
#include "kernels/types.h"
#include "lib/weights/float_conversion.h"

namespace nemo {
namespace {

/// Seven rounds are the fewest that pass every test of the generator's authors.
using Generator = r123::Philox4x64_R<7>;

/// One draw of the generator.
using RandomBlock = std::array<uint16_t, 16>;
constexpr size_t kBlockBytes = sizeof(RandomBlock);

RandomBlock random_block(uint64_t seed, uint64_t stream, uint64_t idx) {
  const Generator::ctr_type words = Generator()({{stream, idx, 0, 0}}, {{seed, 0}});
  RandomBlock block;
  std::memcpy(block.data(), &words, sizeof block);
  return block;
}

/// The e4m3 code nearest to the middle of each of 256 equal parts of (-448, 448).
std::array<uint8_t, 256> make_fp8_table() {
  std::array<uint8_t, 256> table{};
  for (int part = 0; part < 128; ++part) {
    const double wanted = (part + 0.5) / 128 * 448;
    int nearest = 0;
    for (int code = 1; code < 0x7f; ++code) {
      const auto distance = [&](int c) {
        return std::abs(static_cast<double>(e4m3_to_f32(std::byte(c))) - wanted);
      };
      if (distance(code) < distance(nearest)) nearest = code;
    }
    table[static_cast<size_t>(part)] = static_cast<uint8_t>(nearest);
    table[static_cast<size_t>(part) + 128] = static_cast<uint8_t>(nearest | 0x80);
  }
  return table;
}

const std::array<uint8_t, 256>& fp8_table() {
  static const std::array<uint8_t, 256> table = make_fp8_table();
  return table;
}

constexpr uint8_t kFirstBlockScale = 0x70;  // 128; the seven codes above it go up to 240

/// u has 16 bits and the width is rounded to 8: the product is exact, so that no machine's way of multiplying
/// and adding can tell.
void store_uniform(const RandomTensor& tensor, const RandomBlock& block, std::byte* out) {
  const auto center = static_cast<float>(tensor.center);
  const float half_width = kernels::bf16::from_float(static_cast<float>(tensor.half_width)).to_float();
  std::array<float, 16> values;
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = center + half_width * (static_cast<float>(2 * block[i] + 1 - 65536) * 0x1p-16f);
  if (tensor.dtype == DType::kF32) {
    std::memcpy(out, values.data(), sizeof values);
    return;
  }
  std::array<kernels::bf16, 16> rounded;
  for (size_t i = 0; i < values.size(); ++i) rounded[i] = kernels::bf16::from_float(values[i]);
  std::memcpy(out, rounded.data(), sizeof rounded);
}

/// Makes a block of random bytes the next kBlockBytes of the tensor, of a float32 tensor the next
/// 2 * kBlockBytes.
void store_block(const RandomTensor& tensor, const RandomBlock& block, std::byte* out) {
  if (tensor.fill == Fill::kUniform) return store_uniform(tensor, block, out);
  std::memcpy(out, block.data(), sizeof block);
  if (tensor.fill == Fill::kFp8Codes) {
    const std::array<uint8_t, 256>& table = fp8_table();
    for (size_t i = 0; i < kBlockBytes; ++i) out[i] = std::byte{table[static_cast<size_t>(out[i])]};
  } else if (tensor.fill == Fill::kBlockScales) {
    for (size_t i = 0; i < kBlockBytes; ++i) out[i] = (out[i] & std::byte{7}) | std::byte{kFirstBlockScale};
  }
}

}  // namespace

uint64_t RandomTensor::num_bytes() const {
  auto bytes = static_cast<uint64_t>(dtype_size(dtype));
  for (const int64_t size : shape) bytes *= static_cast<uint64_t>(size);
  return bytes;
}

double fp8_code_rms() {
  double sum = 0;
  for (const uint8_t code : fp8_table()) {
    const double value = e4m3_to_f32(std::byte{code});
    sum += value * value;
  }
  return std::sqrt(sum / 256);
}

double nvfp4_value_rms() {
  constexpr std::array kE2m1 = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
  double squares = 0, scale_squares = 0;
  for (const double value : kE2m1) squares += value * value / kE2m1.size();
  for (int i = 0; i < 8; ++i) {
    const double scale = e4m3_to_f32(std::byte(kFirstBlockScale + i));
    scale_squares += scale * scale / 8;
  }
  return std::sqrt(squares * scale_squares);
}

void fill_random(const RandomTensor& tensor, uint64_t seed, uint64_t begin_byte, std::span<std::byte> out) {
  NEMO_CHECK(tensor.fill != Fill::kUniform || tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF32,
             tensor.name);
  NEMO_CHECK(begin_byte % kRandomGrain == 0, tensor.name);
  const size_t block_bytes = tensor.dtype == DType::kF32 ? 2 * kBlockBytes : kBlockBytes;
  uint64_t idx = begin_byte / block_bytes;
  size_t done = 0;
  for (; done + block_bytes <= out.size(); ++idx, done += block_bytes)
    store_block(tensor, random_block(seed, tensor.stream, idx), out.data() + done);
  if (done == out.size()) return;
  std::array<std::byte, 2 * kBlockBytes> last;
  store_block(tensor, random_block(seed, tensor.stream, idx), last.data());
  std::copy_n(last.begin(), out.size() - done, out.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace nemo
