// The bytes of a dispatch message: there and back, and refused when damaged.
#include "dist/moe/dispatch_message.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/error.h"

namespace nemo::dist {
namespace {

using kernels::DType;
using kernels::TensorView;

constexpr int64_t kWidth = 3;
// Exact in bfloat16, so that both types carry them.
const std::vector<float> kRows = {1, -2, 0.5f, 0, -0.0f, 1e20f, 3, 4, -5};

std::string message_of(DType wire) {
  DispatchWriter writer;
  writer.add(2, std::vector<int32_t>{4, 7}, std::vector<float>{0.25f, 0.75f});
  writer.add(0, std::vector<int32_t>{5}, std::vector<float>{1.5f});
  return writer.finish({kRows.data(), 3, kWidth}, wire);
}

int32_t int_at(const char* from, int64_t i) {
  int32_t value = 0;
  std::memcpy(&value, from + 4 * i, sizeof(value));
  return value;
}

TEST(DispatchMessageTest, ComesBackAsItWas) {
  for (const DType wire : {DType::kFloat32, DType::kBFloat16}) {
    const std::string bytes = message_of(wire);
    const DispatchReader reader(bytes, kWidth, wire);
    ASSERT_EQ(reader.num_rows, 2);
    ASSERT_EQ(reader.num_pairs, 3);
    EXPECT_EQ(int_at(reader.pairs, 0), 2);
    EXPECT_EQ(int_at(reader.pairs, 1), 1);
    EXPECT_EQ(int_at(reader.expert_ids, 0), 4);
    EXPECT_EQ(int_at(reader.expert_ids, 2), 5);
    float weight = 0;
    std::memcpy(&weight, reader.weights + 4, sizeof(weight));
    EXPECT_EQ(weight, 0.75f);
    std::vector<float> row(kWidth);
    reader.read_row(0, row.data());
    EXPECT_EQ(std::memcmp(row.data(), kRows.data() + 2 * kWidth, sizeof(float) * kWidth), 0);
    reader.read_row(1, row.data());
    EXPECT_EQ(std::memcmp(row.data(), kRows.data(), sizeof(float) * kWidth), 0);
  }
}

TEST(DispatchMessageTest, BFloat16TakesHalfTheBytesOfARow) {
  EXPECT_EQ(message_of(DType::kFloat32).size() - message_of(DType::kBFloat16).size(), 2u * kWidth * 2);
}

TEST(DispatchMessageTest, NoRowsAreAMessageToo) {
  const std::string bytes = DispatchWriter().finish({nullptr, 0, kWidth}, DType::kFloat32);
  const DispatchReader reader(bytes, kWidth, DType::kFloat32);
  EXPECT_EQ(reader.num_rows, 0);
  EXPECT_EQ(reader.num_pairs, 0);
}

TEST(DispatchMessageTest, AnyOtherLengthIsRefused) {
  const std::string bytes = message_of(DType::kBFloat16);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(DispatchReader(std::string_view(bytes).substr(0, size), kWidth, DType::kBFloat16), Error)
        << size;
  EXPECT_THROW(DispatchReader(bytes + "x", kWidth, DType::kBFloat16), Error);
  EXPECT_THROW(DispatchReader(bytes, kWidth, DType::kFloat32), Error);
  EXPECT_THROW(DispatchReader(bytes, kWidth + 1, DType::kBFloat16), Error);
  std::string negative = bytes;
  negative[3] = '\xff';
  EXPECT_THROW(DispatchReader(negative, kWidth, DType::kBFloat16), Error);
}

}  // namespace
}  // namespace nemo::dist
