// The bytes of a dispatch message: there and back, and refused when damaged.
#include "dist/moe/dispatch_message.h"

#include <gtest/gtest.h>

#include <cstring>

#include "dist/comm/wire_rows.h"
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
  std::vector<kernels::bf16> narrow;
  for (const float value : kRows) narrow.push_back(kernels::bf16::from_float(value));
  const void* const rows = wire == DType::kFloat32 ? static_cast<const void*>(kRows.data()) : narrow.data();
  return writer.finish({static_cast<const std::byte*>(rows), 3, kWidth * kernels::dtype_bytes(wire)});
}

TEST(DispatchMessageTest, ComesBackAsItWas) {
  kernels::ThreadPool threads(1);
  for (const DType wire : {DType::kFloat32, DType::kBFloat16}) {
    const std::string bytes = message_of(wire);
    const DispatchReader reader(bytes, kWidth, wire);
    EXPECT_EQ(std::vector(reader.pairs().begin(), reader.pairs().end()), (std::vector<int32_t>{2, 1}));
    EXPECT_EQ(std::vector(reader.expert_ids().begin(), reader.expert_ids().end()),
              (std::vector<int32_t>{4, 7, 5}));
    EXPECT_EQ(std::vector(reader.weights().begin(), reader.weights().end()),
              (std::vector<float>{0.25f, 0.75f, 1.5f}));
    std::vector<float> rows(2 * kWidth);
    widen_wire_rows({threads, kernels::detect_isa(), wire}, reader.rows(), {rows.data(), 2, kWidth});
    EXPECT_EQ(std::memcmp(rows.data(), kRows.data() + 2 * kWidth, sizeof(float) * kWidth), 0);
    EXPECT_EQ(std::memcmp(rows.data() + kWidth, kRows.data(), sizeof(float) * kWidth), 0);
  }
}

TEST(DispatchMessageTest, ItsSizeIsCountsAndRowsAndPairs) {
  EXPECT_EQ(static_cast<int64_t>(message_of(DType::kBFloat16).size()),
            kDispatchCountBytes + 2 * (4 + 2 * kWidth) + 3 * 8);
}

TEST(DispatchMessageTest, BFloat16TakesHalfTheBytesOfARow) {
  EXPECT_EQ(message_of(DType::kFloat32).size() - message_of(DType::kBFloat16).size(), 2u * kWidth * 2);
}

TEST(DispatchMessageTest, NoRowsAreAMessageToo) {
  const std::string bytes = DispatchWriter().finish({nullptr, 0, 4 * kWidth});
  const DispatchReader reader(bytes, kWidth, DType::kFloat32);
  EXPECT_EQ(reader.num_rows(), 0);
  EXPECT_TRUE(reader.expert_ids().empty());
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
