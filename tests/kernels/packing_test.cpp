// Rows packed in any portions, in any order, from rows with gaps between them, give the bytes that plain
// loops over the layout give; what was not packed stays as it was.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/ops/matmul.h"
#include "tests/kernels/support.h"

namespace nemo::kernels {
namespace {

constexpr int64_t kColumns = 64;  // of a block

/// Packs hold the columns of quantized blocks in these orders: no change may move them.
constexpr int64_t kFp8Order[16] = {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15};
constexpr int64_t kNvfp4Order[32] = {0, 16, 8,  24, 1, 17, 9,  25, 2, 18, 10, 26, 3, 19, 11, 27,
                                     4, 20, 12, 28, 5, 21, 13, 29, 6, 22, 14, 30, 7, 23, 15, 31};

int64_t place_in(std::span<const int64_t> order, int64_t column) {
  const auto width = static_cast<int64_t>(order.size());
  return column / width * width + (std::ranges::find(order, column % width) - order.begin());
}

/// [rows, cols] of random bytes, elements of sizeof(T), three more after every row.
template <class T>
class Rows {
 public:
  Rows(std::mt19937& random, int64_t rows, int64_t cols)
      : rows_(rows), cols_(cols), bytes_(static_cast<size_t>(rows * (cols + 3)) * sizeof(T)) {
    for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(random());
  }
  TensorView<const T> view() const {
    return {reinterpret_cast<const T*>(bytes_.data()), rows_, cols_, cols_ + 3};
  }
  TensorView<const T> slice(int64_t begin, int64_t end) const {
    return view().slice_rows(begin, end - begin);
  }

 private:
  int64_t rows_, cols_;
  std::vector<uint8_t> bytes_;
};

/// A matrix of one format: its rows as they are given, and where the layout puts each of them.
struct Layout {
  WeightFormat format;
  int64_t n, k;
  std::function<void(PackedMatrix&, int64_t begin, int64_t end)> pack;
  std::function<void(uint8_t* packed, int64_t row)> store;
};

/// One element a place of `step` of them, lines of 64 places, no more than that.
template <class T>
void store_elements(uint8_t* packed, const T* given, int64_t k, int64_t step, int64_t block, int64_t place) {
  for (int64_t j = 0; j < k; ++j) {
    const int64_t line = block * ((k + step - 1) / step) + j / step;
    std::memcpy(packed + ((line * kColumns + place) * step + j % step) * int64_t{sizeof(T)}, given + j,
                sizeof(T));
  }
}

template <class T>
Layout floats(std::mt19937& random, WeightFormat format, int64_t n, int64_t k) {
  const Rows<T> rows(random, n, k);
  return {format, n, k,
          [rows](PackedMatrix& packed, int64_t begin, int64_t end) {
            packed.pack_rows(begin, rows.slice(begin, end));
          },
          [rows, k](uint8_t* packed, int64_t row) {
            store_elements(packed, rows.view().row(row), k, 4 / sizeof(T), row / kColumns, row % kColumns);
          }};
}

Layout fp8(std::mt19937& random, int64_t n, int64_t k) {
  const Rows<uint8_t> rows(random, n, k);
  return {WeightFormat::kFp8, n, k,
          [rows](PackedMatrix& packed, int64_t begin, int64_t end) {
            packed.pack_fp8_rows(begin, rows.slice(begin, end));
          },
          [rows, k](uint8_t* packed, int64_t row) {
            store_elements(packed, rows.view().row(row), k, 2, row / kColumns,
                           place_in(kFp8Order, row % kColumns));
          }};
}

Layout nvfp4(std::mt19937& random, int64_t n, int64_t k) {
  const Rows<uint8_t> pairs(random, n, k / 2), scales(random, n, k / 16);
  return {WeightFormat::kNvfp4, n, k,
          [=](PackedMatrix& packed, int64_t begin, int64_t end) {
            packed.pack_nvfp4_rows(begin, pairs.slice(begin, end), scales.slice(begin, end));
          },
          [=](uint8_t* packed, int64_t row) {
            const int64_t place = place_in(kNvfp4Order, row % kColumns);
            for (int64_t group = 0; group < k / 16; ++group) {
              uint8_t* lines = packed + (row / kColumns * (k / 16) + group) * 9 * kColumns + place;
              lines[0] = scales.view().row(row)[group];
              for (int64_t j = 0; j < 8; ++j)
                lines[(1 + j) * kColumns] = pairs.view().row(row)[group * 8 + j];
            }
          }};
}

/// Portions of 0 .. n, of any sizes: half the time of few rows.
std::vector<std::pair<int64_t, int64_t>> random_portions(std::mt19937& random, int64_t n) {
  std::vector<std::pair<int64_t, int64_t>> portions;
  const int64_t most = random() % 2 == 0 ? 9 : n;
  for (int64_t begin = 0, end; begin < n; begin = end) {
    end = std::min(n, begin + 1 + static_cast<int64_t>(random()) % most);
    portions.emplace_back(begin, end);
  }
  std::ranges::shuffle(portions, random);
  return portions;
}

void expect_plain_layout(std::mt19937& random, const Layout& layout) {
  PackedMatrix packed(layout.format, layout.n, layout.k);
  std::vector<uint8_t> expected(static_cast<size_t>(packed.bytes()));
  for (const auto& [begin, end] : random_portions(random, layout.n)) {
    layout.pack(packed, begin, end);
    for (int64_t row = begin; row < end; ++row) layout.store(expected.data(), row);
    ASSERT_EQ(std::memcmp(packed.data(), expected.data(), expected.size()), 0)
        << "rows " << begin << " to " << end << " of [" << layout.n << ", " << layout.k << "], format "
        << static_cast<int>(layout.format);
  }
}

constexpr int64_t kHeights[] = {1, 16, 64, 67, 150};

TEST(Packing, FloatsInAnyPortions) {
  std::mt19937 random(1);
  for (const int64_t n : kHeights)
    for (const int64_t k : {1, 2, 7, 8, 64, 65, 131, 259}) {
      expect_plain_layout(random, floats<float>(random, WeightFormat::kFloat32, n, k));
      expect_plain_layout(random, floats<bf16>(random, WeightFormat::kBFloat16, n, k));
    }
}

TEST(Packing, Fp8InAnyPortions) {
  std::mt19937 random(2);
  for (const int64_t n : kHeights)
    for (const int64_t k : {1, 2, 15, 16, 17, 255, 256, 287, 531})
      expect_plain_layout(random, fp8(random, n, k));
}

TEST(Packing, Nvfp4InAnyPortions) {
  std::mt19937 random(3);
  for (const int64_t n : kHeights)
    for (const int64_t k : {16, 32, 48, 256, 272, 528, 560, 4144})
      expect_plain_layout(random, nvfp4(random, n, k));
}

TEST(Packing, OtherFloatsAreRoundedOrWidened) {
  std::mt19937 random(4);
  const int64_t n = 150, k = 67;
  MatrixOf<float> wide(n, k);
  MatrixOf<bf16> narrow(n, k);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) {
      narrow(i, j) = bf16::from_float(std::normal_distribution<float>()(random));
      wide(i, j) = narrow(i, j).to_float();
    }
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    PackedMatrix from_wide(dtype, n, k), from_narrow(dtype, n, k);
    for (const auto& [begin, end] : random_portions(random, n)) {
      from_wide.pack_rows(begin, std::as_const(wide).view().slice_rows(begin, end - begin));
      from_narrow.pack_rows(begin, std::as_const(narrow).view().slice_rows(begin, end - begin));
    }
    EXPECT_EQ(std::memcmp(from_wide.data(), from_narrow.data(), static_cast<size_t>(from_wide.bytes())), 0);
  }
}

}  // namespace
}  // namespace nemo::kernels
