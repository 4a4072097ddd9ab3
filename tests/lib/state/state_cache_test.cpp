// A copied state goes on as its source does, and neither knows of the other.
#include "lib/state/state_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "kernels/error.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

constexpr int64_t kNumPages = 6;

ModelConfig a_model() {
  return load_model_config(source_path("tests/golden/models/latent"));
}

class StateCacheFork : public testing::TestWithParam<kernels::KvFormat> {
 protected:
  StateCacheFork() {
    for (int64_t i = 0; i < model_.num_layers(); ++i) {
      const LayerKind kind = model_.layers[static_cast<size_t>(i)].kind;
      if (kind == LayerKind::kMamba) mamba_ = i;
      if (kind == LayerKind::kAttention) attention_ = i;
    }
    fill();
  }

  size_t conv_size() const { return static_cast<size_t>((model_.conv_kernel - 1) * model_.conv_dim()); }
  size_t ssm_size() const { return static_cast<size_t>(model_.mamba_inner_size() * model_.ssm_state_size); }
  size_t page_bytes() const {
    return static_cast<size_t>(
        kernels::KvPages::page_bytes(GetParam(), model_.num_key_value_heads, model_.head_dim) / 2);
  }
  std::string page(const std::byte* pages, int32_t id) const {
    return {reinterpret_cast<const char*>(pages) + static_cast<size_t>(id) * page_bytes(), page_bytes()};
  }
  std::string key_page(int32_t id) { return page(state_.kv(attention_).keys, id); }
  std::string value_page(int32_t id) { return page(state_.kv(attention_).values, id); }

  std::vector<float> mamba_of(int64_t slot) {
    const kernels::MambaState mamba = state_.mamba(mamba_);
    const float* conv = mamba.conv + static_cast<size_t>(slot) * conv_size();
    const float* ssm = mamba.ssm + static_cast<size_t>(slot) * ssm_size();
    std::vector<float> all(conv, conv + conv_size());
    all.insert(all.end(), ssm, ssm + ssm_size());
    return all;
  }

  const ModelConfig model_ = a_model();
  int64_t mamba_ = -1, attention_ = -1;
  StateCache state_{model_,
                    {.layer_begin = 0,
                     .layer_end = model_.num_layers(),
                     .num_slots = 3,
                     .num_pages = kNumPages,
                     .kv_format = GetParam()}};

 private:
  // No two floats of states are alike, no two pages.
  void fill() {
    const kernels::MambaState mamba = state_.mamba(mamba_);
    std::iota(mamba.conv, mamba.conv + 3 * conv_size(), 0.0F);
    std::iota(mamba.ssm, mamba.ssm + 3 * ssm_size(), 0.5F);
    for (size_t i = 0; i < kNumPages; ++i) {
      std::memset(state_.kv(attention_).keys + i * page_bytes(), static_cast<int>(i), page_bytes());
      std::memset(state_.kv(attention_).values + i * page_bytes(), static_cast<int>(i) + 100, page_bytes());
    }
  }
};

TEST_P(StateCacheFork, CopiesStatesAndPages) {
  const std::vector<int32_t> source_pages = {4, 1}, pages = {0, 5, 3};
  state_.prepare(2, 0, source_pages);
  state_.prepare(0, 0, std::vector<int32_t>{2});  // forgotten by the fork
  const std::vector<float> other = mamba_of(1);
  state_.fork(2, 0, kernels::kKvPageTokens + 1, pages);
  EXPECT_EQ(mamba_of(0), mamba_of(2));
  EXPECT_EQ(mamba_of(1), other);
  EXPECT_TRUE(std::ranges::equal(state_.page_table(0), pages));
  EXPECT_TRUE(std::ranges::equal(state_.page_table(2), source_pages));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(key_page(pages[i]), key_page(source_pages[i]));
    EXPECT_EQ(value_page(pages[i]), value_page(source_pages[i]));
  }
  for (const int32_t untouched : {1, 2, 3, 4}) {
    EXPECT_EQ(key_page(untouched), std::string(page_bytes(), static_cast<char>(untouched)));
    EXPECT_EQ(value_page(untouched), std::string(page_bytes(), static_cast<char>(untouched + 100)));
  }
}

TEST_P(StateCacheFork, RefusesWhatItDoesNotHave) {
  state_.prepare(2, 0, std::vector<int32_t>{4, 1});
  const std::vector<int32_t> pages = {0, 5, 3};
  EXPECT_THROW(state_.fork(3, 0, 1, pages), Error);
  EXPECT_THROW(state_.fork(2, -1, 1, pages), Error);
  EXPECT_THROW(state_.fork(2, 0, 1, std::vector<int32_t>{kNumPages}), Error);
  EXPECT_THROW(state_.fork(2, 0, 2 * kernels::kKvPageTokens + 1, pages), Error);
  EXPECT_THROW(state_.fork(2, 0, kernels::kKvPageTokens + 1, std::vector<int32_t>{0}), Error);
}

INSTANTIATE_TEST_SUITE_P(Formats, StateCacheFork,
                         testing::Values(kernels::KvFormat::kFloat32, kernels::KvFormat::kBFloat16,
                                         kernels::KvFormat::kFp8));

}  // namespace
}  // namespace nemo
