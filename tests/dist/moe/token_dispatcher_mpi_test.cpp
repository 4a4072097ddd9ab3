// The distributed mixture-of-experts layer against moe_mixer, to the bit, on 1, 2, 3 and 4 ranks. Also shows
// that the values can tell: other orders of the sum fail on them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "dist/moe/token_dispatcher.h"
#include "dist/plan/plan.h"
#include "tests/dist/moe/random_moe.h"

namespace nemo::dist {
namespace {

using kernels::DType;
using kernels::ExpertRange;
using kernels::TensorView;
using test::MoeShape;
using test::RandomMoe;
using test::Values;

std::vector<ExpertRange> blocks_of(int64_t num_experts, int64_t num_lanes) {
  std::vector<ExpertRange> blocks;
  for (int64_t lane = 0; lane < num_lanes; ++lane)
    blocks.push_back(expert_block(num_experts, num_lanes, lane));
  return blocks;
}

struct Case {
  MoeShape shape;
  DType dtype = DType::kFloat32;
  int threads = 1;
};

/// One layer, one set of rows a rank; compares a distributed result with that of the whole layer here.
class Bench {
 public:
  Bench(Communicator& world, const Case& c)
      : world_(world),
        threads_(c.threads),
        context_{threads_, kernels::detect_isa(), c.dtype},
        moe_(c.shape, c.dtype),
        whole_(moe_.layer(moe_.all_experts())),
        mine_(moe_.layer(blocks_of(c.shape.experts, world.size())[static_cast<size_t>(world.rank())])),
        split_(ExpertSplit::make(blocks_of(c.shape.experts, world.size()), c.shape.experts)) {}

  ExpertSplit split() const { return split_; }

  std::vector<float> distributed(const std::vector<float>& x, const ExpertSplit& split) {
    std::vector<float> y(x.size(), -7.0f);
    TokenDispatcher dispatcher(world_);
    distributed_moe(step(), dispatcher, split, moe_.layer_config(), mine_, view(x), view(y));
    return y;
  }

  std::vector<float> expected(const std::vector<float>& x) {
    std::vector<float> y(x.size(), -7.0f);
    moe_mixer(step(), moe_.layer_config(), whole_, view(x), view(y));
    return y;
  }

  /// What a plain implementation does: every rank adds its experts' outputs one after the other, and the
  /// ranks' sums are added in the order of the ranks. For layers without latent and shared parts.
  std::vector<float> in_rank_order(const std::vector<float>& x) {
    Workspace::Frame frame(workspace_);
    const RoutedTokens routed = route_tokens(step(), moe_.layer_config(), whole_, view(x));
    const int64_t top_k = routed.expert_ids.cols, num_rows = routed.expert_ids.rows;
    std::vector<int64_t> offsets;
    for (int64_t row = 0; row <= num_rows; ++row) offsets.push_back(row * top_k);
    std::vector<ExpertRange> leaves;
    for (int64_t e = 0; e < moe_.shape().experts; ++e) leaves.push_back({e, e + 1});
    const auto num_pairs = static_cast<size_t>(num_rows * top_k);
    const ExpertRows input{
        view(x), offsets, {routed.expert_ids.data, num_pairs}, {routed.weights.data, num_pairs}};
    auto outputs = workspace_.tensor<float>(num_rows * top_k, moe_.shape().hidden);
    expert_partial_sums(step(), whole_, leaves, input, outputs);
    std::vector<float> y(x.size(), 0.0f);
    for (int64_t row = 0; row < num_rows; ++row) {
      for (const ExpertRange& block : split_.blocks) {
        std::vector<float> sum(static_cast<size_t>(outputs.cols), 0.0f);
        for (int64_t i = 0; i < top_k; ++i) {
          const int32_t id = routed.expert_ids.row(row)[i];
          if (id < block.begin || id >= block.end) continue;
          for (int64_t j = 0; j < outputs.cols; ++j)
            sum[static_cast<size_t>(j)] += outputs.row(row * top_k + i)[j];
        }
        for (int64_t j = 0; j < outputs.cols; ++j)
          y[static_cast<size_t>(row * outputs.cols + j)] += sum[static_cast<size_t>(j)];
      }
    }
    return y;
  }

  std::vector<float> rows(int64_t count, uint32_t seed) const {
    return moe_.rows(count, seed * 16 + static_cast<uint32_t>(world_.rank()));
  }
  /// Rows of a batch that go from this rank to other ranks, counted once for each of them.
  int64_t rows_sent_away(const std::vector<float>& x) {
    Workspace::Frame frame(workspace_);
    const RoutedTokens routed = route_tokens(step(), moe_.layer_config(), whole_, view(x));
    int64_t count = 0;
    for (int64_t row = 0; row < routed.expert_ids.rows; ++row) {
      for (int lane = 0; lane < world_.size(); ++lane) {
        const ExpertRange& block = split_.blocks[static_cast<size_t>(lane)];
        const int32_t* ids = routed.expert_ids.row(row);
        count += lane != world_.rank() && std::any_of(ids, ids + routed.expert_ids.cols, [&](int32_t id) {
                   return id >= block.begin && id < block.end;
                 });
      }
    }
    return count;
  }

 private:
  Step step() { return {context_, moe_.model_config(), workspace_, {}, {}}; }
  TensorView<const float> view(const std::vector<float>& values) const {
    return {values.data(), static_cast<int64_t>(values.size()) / moe_.shape().hidden, moe_.shape().hidden};
  }
  TensorView<float> view(std::vector<float>& values) const {
    return {values.data(), static_cast<int64_t>(values.size()) / moe_.shape().hidden, moe_.shape().hidden};
  }

  Communicator& world_;
  kernels::ThreadPool threads_;
  kernels::Context context_;
  RandomMoe moe_;
  MoeLayer whole_, mine_;
  ExpertSplit split_;
  Workspace workspace_;
};

/// Bits, so that -0 and 0 differ and NaN equals itself.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

Communicator& world() {
  static Communicator world = Communicator::world(std::chrono::seconds(60));
  return world;
}

class DispatcherTest : public testing::TestWithParam<Case> {};

TEST_P(DispatcherTest, GivesTheBitsOfOneRank) {
  const int rank = world().rank(), size = world().size();
  Bench bench(world(), GetParam());
  // Rows of each rank in turn: everybody, nobody, one lane only, all lanes but one, one row and many.
  const std::vector<std::vector<int64_t>> batches = {{5, 5, 5, 5}, {0, 0, 0, 0}, {3, 0, 0, 0},   {0, 0, 0, 9},
                                                     {0, 7, 1, 2}, {1, 1, 1, 1}, {1, 130, 0, 17}};
  uint32_t seed = 0;
  for (const auto& counts : batches) {
    const int place = (rank + 4 - size) % 4;  // also with fewer ranks the last one gets the last count
    const std::vector<float> x = bench.rows(counts[static_cast<size_t>(place)], ++seed);
    EXPECT_TRUE(same_bits(bench.distributed(x, bench.split()), bench.expected(x))) << "batch " << seed;
  }
}

TEST_P(DispatcherTest, ARowDoesNotDependOnItsNeighbours) {
  Bench bench(world(), GetParam());
  const std::vector<float> x = bench.rows(6, 77);
  const std::vector<float> together = bench.distributed(x, bench.split());
  const size_t width = x.size() / 6;
  for (size_t row = 0; row < 6; ++row) {
    const std::vector<float> alone(x.begin() + static_cast<int64_t>(row * width),
                                   x.begin() + static_cast<int64_t>((row + 1) * width));
    const std::vector<float> y = bench.distributed(alone, bench.split());
    EXPECT_EQ(std::memcmp(y.data(), together.data() + row * width, width * sizeof(float)), 0)
        << "row " << row;
  }
}

std::vector<Case> all_cases() {
  const std::vector<MoeShape> shapes = {
      {.name = "plain"},
      {.name = "shared", .shared = 16},
      {.name = "latent", .top_k = 3, .latent = 10},
      {.name = "latent_shared", .experts = 16, .top_k = 4, .latent = 10, .shared = 16},
      {.name = "seven_experts", .experts = 7, .top_k = 3},
      {.name = "thirteen_experts", .experts = 13, .top_k = 5, .latent = 6, .shared = 4},
      {.name = "five_experts_all", .experts = 5, .top_k = 5},
      {.name = "as_few_as_ranks", .experts = 4, .top_k = 1},
      {.name = "one_for_all", .top_k = 1, .favourite = 3},
      {.name = "last_for_all", .experts = 6, .top_k = 2, .favourite = 5},
      {.name = "all_experts", .top_k = 8, .shared = 16},
      {.name = "adversarial", .top_k = 8, .values = Values::kAdversarial},
      {.name = "adversarial_some", .experts = 16, .top_k = 5, .values = Values::kAdversarial},
      {.name = "adversarial_uneven", .experts = 13, .top_k = 13, .values = Values::kAdversarial},
      {.name = "adversarial_latent",
       .experts = 11,
       .top_k = 7,
       .latent = 12,
       .shared = 8,
       .values = Values::kAdversarial},
  };
  std::vector<Case> cases;
  for (const MoeShape& shape : shapes) {
    cases.push_back({shape, DType::kFloat32, 1});
    cases.push_back({shape, DType::kBFloat16, 2});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Layers, DispatcherTest, testing::ValuesIn(all_cases()), [](const auto& param) {
  return param.param.shape.name + (param.param.dtype == DType::kFloat32 ? "_float32" : "_bfloat16");
});

TEST(DispatcherBatchTest, AGiantBatchGivesTheBitsOfOneRank) {
  // More (row, expert) pairs than are computed in one portion, all of them at one rank.
  for (const int64_t favourite : {int64_t{-1}, int64_t{1}}) {
    Bench bench(
        world(),
        {{.name = "giant", .top_k = favourite < 0 ? 4 : 1, .favourite = favourite}, DType::kBFloat16, 2});
    const std::vector<float> x = bench.rows(world().rank() == world().size() - 1 ? 3000 : 11, 5);
    EXPECT_TRUE(same_bits(bench.distributed(x, bench.split()), bench.expected(x))) << favourite;
  }
}

/// Bytes that all ranks post with `tag` while `work` runs.
template <class Work>
int64_t bytes_posted_by_all(Tag tag, Work&& work) {
  const int64_t before = world().bytes_posted(tag);
  work();
  const int64_t mine = world().bytes_posted(tag) - before;
  return world().all_sum({&mine, 1}, "bytes").front();
}

int64_t sum_over_ranks(int64_t mine) {
  return world().all_sum({&mine, 1}, "numbers").front();
}

// Where blocks are aligned powers of two, one float32 vector comes home for each row and rank; that is why
// blocks send roots and not the outputs of their experts.
TEST(DispatcherBytesTest, OneVectorComesHomeForEachRowAndRank) {
  if (world().size() == 3) GTEST_SKIP() << "8 experts on 3 ranks are not subtrees";
  Bench bench(world(), {{.name = "bytes", .top_k = 6}, DType::kBFloat16, 1});
  const std::vector<float> x = bench.rows(20 + world().rank(), 9);
  const int64_t posted = bytes_posted_by_all(Tag::kCombine, [&] { bench.distributed(x, bench.split()); });
  const int64_t vectors = sum_over_ranks(bench.rows_sent_away(x));
  EXPECT_EQ(posted, vectors * 24 * static_cast<int64_t>(sizeof(float)));
}

/// Rows that choose experts as told, through the exchange with all sums zero.
class ChosenRows {
 public:
  ChosenRows(const ModelConfig& model, std::vector<int32_t> ids, DType dtype)
      : model_(model),
        layer_(model.layers.front()),
        ids_(std::move(ids)),
        weights_(ids_.size(), 0.5f),
        x_(static_cast<size_t>(num_rows() * model.expert_io_size(layer_)), 1.0f),
        context_{threads_, kernels::detect_isa(), dtype} {}

  int64_t num_rows() const { return static_cast<int64_t>(ids_.size()) / layer_.num_experts_per_tok; }

  /// Rows that this rank sent to others.
  int64_t exchange() {
    const auto split =
        ExpertSplit::make(blocks_of(layer_.n_routed_experts, world().size()), layer_.n_routed_experts);
    const Step step{context_, model_, workspace_, {}, {}};
    TokenDispatcher dispatcher(world());
    const int64_t top_k = layer_.num_experts_per_tok;
    const RoutedTokens routed{{ids_.data(), num_rows(), top_k}, {weights_.data(), num_rows(), top_k}};
    auto handle =
        dispatcher.dispatch(step, split, {x_.data(), num_rows(), model_.expert_io_size(layer_)}, routed);
    const auto received = dispatcher.receive(step, handle);
    std::fill_n(received.roots.data, received.roots.rows * received.roots.cols, 0.0f);
    dispatcher.send_home(handle);
    dispatcher.combine(step, std::move(handle));
    return dispatcher.counters().copies;
  }

 private:
  const ModelConfig& model_;
  const LayerConfig& layer_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_, x_;
  kernels::ThreadPool threads_{1};
  kernels::Context context_;
  Workspace workspace_;
};

// The plan's wire bytes are expectations over routings. Where every row chooses every expert nothing is left
// to chance, and they are what is posted, to the byte.
TEST(DispatcherBytesTest, TheBytesPostedAreThePlans) {
  JobConfig job;
  for (const int64_t experts : {8, 13}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const RandomMoe moe({.name = "plan", .experts = experts, .top_k = experts, .latent = 10}, dtype);
      job.dtype = dtype == DType::kFloat32 ? ActivationType::kFloat32 : ActivationType::kBFloat16;
      const int64_t size = world().size(), tokens = 7 * size;
      std::vector<int32_t> ids;
      for (int row = 0; row < 7; ++row)
        for (int32_t id = 0; id < experts; ++id) ids.push_back(id);
      ChosenRows rows(moe.model_config(), ids, dtype);
      const WireBytes wire = wire_bytes_per_token(moe.model_config(), job, {.expert = size});
      int64_t copies = 0;
      const int64_t combined = bytes_posted_by_all(Tag::kCombine, [&] { copies = rows.exchange(); });
      const int64_t dispatched = bytes_posted_by_all(Tag::kDispatch, [&] { rows.exchange(); });
      const int64_t counts = size * (size - 1) * kDispatchCountBytes;  // of each message, not of its tokens
      const auto per_token = static_cast<double>(tokens);
      EXPECT_NEAR(static_cast<double>(combined), per_token * wire.combine_per_moe_layer, 1e-6);
      EXPECT_NEAR(static_cast<double>(dispatched - counts), per_token * wire.dispatch_per_moe_layer, 1e-6);
      EXPECT_NEAR(static_cast<double>(sum_over_ranks(copies)), per_token * wire.ranks_per_moe_layer, 1e-9);
    }
  }
}

// Evenly drawn experts: as many copies as the plan expects, within five standard deviations of the mean.
TEST(DispatcherBytesTest, CopiesPerTokenAreThePlansExpectation) {
  constexpr int64_t kExperts = 16, kTopK = 3, kRows = 2000;
  const RandomMoe moe({.name = "even", .experts = kExperts, .top_k = kTopK}, DType::kBFloat16);
  std::mt19937 random(static_cast<unsigned>(world().rank()));
  std::vector<int32_t> ids, all(kExperts);
  std::iota(all.begin(), all.end(), 0);
  for (int64_t row = 0; row < kRows; ++row) {
    for (size_t i = 0; i < kTopK; ++i) std::swap(all[i], all[i + random() % (all.size() - i)]);
    ids.insert(ids.end(), all.begin(), all.begin() + kTopK);
    std::sort(ids.end() - kTopK, ids.end());
  }
  ChosenRows rows(moe.model_config(), ids, DType::kBFloat16);
  const auto tokens = static_cast<double>(kRows * world().size());
  const double copies = static_cast<double>(sum_over_ranks(rows.exchange())) / tokens;
  const double expected =
      wire_bytes_per_token(moe.model_config(), {}, {.expert = world().size()}).ranks_per_moe_layer;
  const double most = std::min<double>(kTopK, world().size() - 1);  // so a variance of most^2 / 4 at the most
  EXPECT_NEAR(copies, expected, 5 * most / 2 / std::sqrt(tokens));
}

class OtherOrderTest : public testing::TestWithParam<int64_t> {
 protected:
  Bench bench{
      world(),
      {{.name = "control", .experts = GetParam(), .top_k = GetParam(), .values = Values::kAdversarial},
       DType::kFloat32,
       1}};
  const std::vector<float> x = bench.rows(8, 3);
};

// The values are worth something only if another order shows.
TEST_P(OtherOrderTest, SumsInTheOrderOfRanksDiffer) {
  const std::vector<float> expected = bench.expected(x);
  EXPECT_FALSE(same_bits(bench.in_rank_order(x), expected));
  EXPECT_TRUE(same_bits(bench.distributed(x, bench.split()), expected));
}

// One root a rank, whatever its block: right where every block is a subtree, and only there.
TEST_P(OtherOrderTest, OneRootARankIsTheTreeOnlyForAlignedBlocks) {
  ExpertSplit one_root = bench.split();
  bool aligned = true;
  for (size_t lane = 0; lane < one_root.blocks.size(); ++lane) {
    aligned = aligned && one_root.subtrees[lane].size() == 1;
    one_root.subtrees[lane] = {one_root.blocks[lane]};
  }
  EXPECT_EQ(same_bits(bench.distributed(x, one_root), bench.expected(x)), aligned);
}

INSTANTIATE_TEST_SUITE_P(Experts, OtherOrderTest, testing::Values(8, 16, 13));

}  // namespace
}  // namespace nemo::dist
