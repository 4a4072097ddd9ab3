#include "kernels/ops/attention.h"

#include "kernels/error.h"
#include "tests/kernels/e4m3_reference.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

struct Shape {
  int64_t num_heads, num_kv_heads, head_dim;
  int64_t q_cols() const { return num_heads * head_dim; }
  int64_t kv_cols() const { return num_kv_heads * head_dim; }
  int64_t input_cols() const { return q_cols() + 2 * kv_cols(); }
};

/// What a job computes in and stores keys and values as.
struct Storage {
  DType dtype;
  KvFormat format;
  KvScales scales = {};
};

constexpr Storage kFloat32 = {DType::kFloat32, KvFormat::kFloat32};
constexpr Storage kBFloat16 = {DType::kBFloat16, KvFormat::kBFloat16};
constexpr Storage kFp8 = {DType::kBFloat16, KvFormat::kFp8, {.key = 0.0137f, .value = 0.006f}};
constexpr Storage kFp8InFloat32Jobs = {DType::kFloat32, KvFormat::kFp8, {.key = 0.5f, .value = 3.0f}};
/// What values are multiplied by, in double precision, rounded to what the job computes in as kernels/ops/
/// attention.h says; and what their sum is divided by.
struct Weights {
  std::vector<double> weights;
  std::vector<double> doubts;  ///< how far float32 may round elsewhere, near a tie of bfloat16
  double total = 0;

  Weights(DType dtype, const std::vector<double>& scores) {
    constexpr size_t kStretch = 8 * kKvPageTokens;
    constexpr double kFloatError = 1e-5;
    const double largest = *std::ranges::max_element(scores);
    for (size_t begin = 0; begin < scores.size(); begin += kStretch) {
      const auto stretch = std::span(scores).subspan(begin, std::min(kStretch, scores.size() - begin));
      const double of_stretch = *std::ranges::max_element(stretch), scale = std::exp(of_stretch - largest);
      for (const double score : stretch) {
        const double exact = std::exp(score - of_stretch);
        const auto rounded_weight = [&](double weight) {
          return dtype == DType::kFloat32 ? weight : double{rounded(dtype, static_cast<float>(weight))};
        };
        weights.push_back(rounded_weight(exact) * scale);
        doubts.push_back(dtype == DType::kFloat32 ? 0
                                                  : (rounded_weight(exact * (1 + kFloatError)) -
                                                     rounded_weight(exact * (1 - kFloatError))) *
                                                        scale);
        total += exact * scale;
      }
    }
  }

  /// Expects the weighted sum of value(token).
  template <class Value>
  void expect(float output, double tolerance, Value&& value) const {
    double sum = 0;
    for (size_t t = 0; t < weights.size(); ++t) {
      sum += weights[t] / total * value(static_cast<int64_t>(t));
      tolerance += doubts[t] / total * std::abs(value(static_cast<int64_t>(t)));
    }
    EXPECT_NEAR(output, sum, tolerance);
  }
};

constexpr Storage kStorages[] = {kFloat32, kBFloat16, kFp8, kFp8InFloat32Jobs};

/// input [rows, q | k | v] as attention sees it: q rounded, k and v what is left of them in the pages.
Matrix as_stored(const Storage& storage, const Shape& shape, const Matrix& input) {
  Matrix result(input.rows(), input.cols());
  for (int64_t i = 0; i < input.rows(); ++i)
    for (int64_t j = 0; j < input.cols(); ++j) {
      const bool is_query = j < shape.q_cols(), is_key = j < shape.q_cols() + shape.kv_cols();
      const float scale = is_key ? storage.scales.key : storage.scales.value;
      result(i, j) = is_query || storage.format != KvFormat::kFp8 ? rounded(storage.dtype, input(i, j))
                                                                  : nearest_e4m3(input(i, j) / scale) * scale;
    }
  return result;
}

/// Scores of the keys [0, row], from column `key` on, with the query of the row from column `query` on.
std::vector<double> scores_of(const Matrix& seen, int64_t row, int64_t query, int64_t key, int64_t head_dim) {
  std::vector<double> scores;
  for (int64_t t = 0; t <= row; ++t) {
    double dot = 0;
    for (int64_t d = 0; d < head_dim; ++d) dot += double{seen(row, query + d)} * double{seen(t, key + d)};
    scores.push_back(dot / std::sqrt(static_cast<double>(head_dim)));
  }
  return scores;
}

/// Pages of one layer with NaN wherever nothing has been stored, as an earlier owner may have left them.
class Cache {
 public:
  Cache(const Storage& storage, const Shape& shape, int64_t num_pages)
      : shape_(shape),
        bytes_(static_cast<size_t>(num_pages *
                                   KvPages::page_bytes(storage.format, shape.num_kv_heads, shape.head_dim)),
               std::byte{0xFF}),
        pages_{.format = storage.format,
               .keys = bytes_.data(),
               .values = bytes_.data() + bytes_.size() / 2,
               .num_pages = num_pages,
               .num_kv_heads = shape.num_kv_heads,
               .head_dim = shape.head_dim,
               .scales = storage.scales} {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  /// input [rows, q | k | v] -> output [rows, q_cols]
  void run(const Context& context, std::span<const Segment> segments, std::span<const PageTable> tables,
           const Matrix& input, Matrix& output) {
    const TensorView<const float> in = input.view();
    append_kv(context, segments, tables, in.slice_cols(shape_.q_cols(), shape_.kv_cols()),
              in.slice_cols(shape_.q_cols() + shape_.kv_cols(), shape_.kv_cols()), pages_);
    paged_attention(context, segments, tables, in.slice_cols(0, shape_.q_cols()), shape_.num_heads, pages_,
                    output.view());
    EXPECT_TRUE(output.intact());
  }

 private:
  Shape shape_;
  std::vector<std::byte> bytes_;
  KvPages pages_;
};

constexpr Shape kSmall = {4, 2, 6}, kUsual = {16, 1, 128}, kOdd = {7, 1, 70}, kMany = {10, 5, 32};

class AttentionTest : public KernelTest {};

const std::vector<int32_t> kTable = {5, 0, 3, 2, 6};  // pages lie anywhere

TEST_P(AttentionTest, AgreesWithDoublePrecision) {
  for (const Storage& storage : kStorages)
    for (const Shape& shape : {kSmall, kUsual, kOdd, kMany}) {
      const int64_t rows = 150;
      Cache cache(storage, shape, 7);
      const Matrix input = random_matrix(random_, rows, shape.input_cols());
      Matrix output(rows, shape.q_cols());
      const Segment all{.row_begin = 0, .row_count = rows};
      const PageTable table = kTable;
      cache.run(context(storage.dtype), {&all, 1}, {&table, 1}, input, output);
      const Matrix seen = as_stored(storage, shape, input);
      for (int64_t i : {0, 1, 63, 64, 65, 127, 128, 149})
        for (int64_t head = 0; head < shape.num_heads; ++head) {
          const int64_t kv = shape.q_cols() + head / (shape.num_heads / shape.num_kv_heads) * shape.head_dim;
          const Weights weights(storage.dtype, scores_of(seen, i, head * shape.head_dim, kv, shape.head_dim));
          SCOPED_TRACE("row " + std::to_string(i) + ", head " + std::to_string(head));
          for (int64_t d = 0; d < shape.head_dim; ++d)
            weights.expect(output(i, head * shape.head_dim + d), 2e-6,
                           [&](int64_t t) { return double{seen(t, kv + shape.kv_cols() + d)}; });
          ASSERT_FALSE(HasFailure());
        }
    }
}

TEST_P(AttentionTest, PrefillEqualsDecodeToTheBit) {
  for (const Storage& storage : kStorages)
    for (const Shape& shape : {kSmall, kUsual, kOdd}) {
      const int64_t rows = 140;
      const Matrix input = random_matrix(random_, rows, shape.input_cols(), 3.0f);
      const PageTable table = kTable;
      Matrix whole(rows, shape.q_cols());
      Cache cache(storage, shape, 7);
      const Segment all{.row_begin = 0, .row_count = rows};
      cache.run(context(storage.dtype), {&all, 1}, {&table, 1}, input, whole);
      for (int64_t longest : {1, 7, 90}) {
        Cache fresh(storage, shape, 7);
        Matrix pieces(rows, shape.q_cols());
        std::uniform_int_distribution<int64_t> length(0, longest);
        for (int64_t begin = 0; begin < rows;) {
          const int64_t count = std::min(rows - begin, longest == 1 ? 1 : length(random_));
          const Segment chunk{.row_begin = begin, .row_count = count, .position = begin};
          fresh.run(context(storage.dtype), {&chunk, 1}, {&table, 1}, input, pieces);
          begin += count;
        }
        for (int64_t i = 0; i < rows; ++i)
          ASSERT_TRUE(same_bits(pieces.row(i), whole.row(i), shape.q_cols()))
              << "row " << i << ", pieces of " << longest;
      }
    }
}

TEST_P(AttentionTest, StretchesAreMergedAlikeHoweverTheyAreDivided) {
  // Many rows at once: a thread visits all stretches of a block. One row: threads share its stretches.
  const int64_t rows = 1100;
  for (const Storage& storage : kStorages) {
    const Matrix input = random_matrix(random_, rows, kSmall.input_cols(), 2.0f);
    std::vector<int32_t> pages;
    for (int32_t p = 0; p < 18; ++p) pages.push_back(17 - p);
    const PageTable table = pages;
    Matrix whole(rows, kSmall.q_cols()), single(rows, kSmall.q_cols());
    Cache cache(storage, kSmall, 18);
    const Segment all{.row_begin = 0, .row_count = rows};
    cache.run(context(storage.dtype), {&all, 1}, {&table, 1}, input, whole);
    for (int64_t i : {0, 510, 511, 512, 513, 575, 576, 1023, 1024, 1099}) {
      const Segment one{.row_begin = i, .row_count = 1, .position = i};
      cache.run(context(storage.dtype), {&one, 1}, {&table, 1}, input, single);
      ASSERT_TRUE(same_bits(single.row(i), whole.row(i), kSmall.q_cols())) << "row " << i;
    }
    const Matrix seen = as_stored(storage, kSmall, input);
    // The last row's last head, which reads the last KV head.
    const int64_t head = kSmall.q_cols() - kSmall.head_dim;
    const Weights weights(storage.dtype,
                          scores_of(seen, rows - 1, head, head + kSmall.kv_cols(), kSmall.head_dim));
    for (int64_t d = 0; d < kSmall.head_dim; ++d)
      weights.expect(whole(rows - 1, head + d), 1e-5,
                     [&](int64_t t) { return double{seen(t, kSmall.input_cols() - kSmall.head_dim + d)}; });
  }
}

TEST_P(AttentionTest, ALaterTokenIsNotSeen) {
  // Causal to the bit, also when what comes later is NaN or infinite.
  const int64_t rows = 100;
  for (const Storage& storage : {kBFloat16, kFp8}) {
    Matrix input = random_matrix(random_, rows, kUsual.input_cols());
    const PageTable table = kTable;
    const Segment all{.row_begin = 0, .row_count = rows};
    Matrix clean(rows, kUsual.q_cols()), poisoned(rows, kUsual.q_cols());
    Cache cache(storage, kUsual, 7);
    cache.run(context(storage.dtype), {&all, 1}, {&table, 1}, input, clean);
    for (int64_t i = 70; i < rows; ++i)
      std::fill_n(input.row(i), input.cols(), i % 2 == 0 ? std::nanf("") : INFINITY);
    cache.run(context(storage.dtype), {&all, 1}, {&table, 1}, input, poisoned);
    for (int64_t i = 0; i < 70; ++i)
      ASSERT_TRUE(same_bits(clean.row(i), poisoned.row(i), kUsual.q_cols())) << i;
    for (int64_t i = 70; i < rows; ++i) ASSERT_TRUE(std::isnan(poisoned(i, 0))) << i;
  }
}

TEST_P(AttentionTest, IsRowPure) {
  // Every row continues a sequence of its own, of unequal lengths; histories are stored once.
  const int64_t sequences = 9;
  for (const auto& [storage, shape] : {std::pair(kBFloat16, kSmall), std::pair(kBFloat16, kUsual),
                                       std::pair(kFp8, kSmall), std::pair(kFp8, kUsual)}) {
    Cache cache(storage, shape, 2 * sequences);
    std::vector<std::vector<int32_t>> tables;
    for (int32_t s = 0; s < sequences; ++s) tables.push_back({2 * s + 1, 2 * s});
    const auto position = [](int64_t s) { return 13 * s; };
    for (int64_t s = 1; s < sequences; ++s) {
      const Matrix history = random_matrix(random_, position(s), shape.input_cols());
      Matrix ignored(position(s), shape.q_cols());
      const Segment segment{.row_begin = 0, .row_count = position(s)};
      const PageTable table = tables[static_cast<size_t>(s)];
      cache.run(context(storage.dtype), {&segment, 1}, {&table, 1}, history, ignored);
    }
    Matrix which(sequences, 1);
    for (int64_t s = 0; s < sequences; ++s) which(s, 0) = static_cast<float>(s);
    const Matrix input = random_matrix(random_, sequences, shape.input_cols());
    std::vector<Matrix> alone;
    const auto run = [&, &storage = storage, &shape = shape](const std::vector<int64_t>& order,
                                                             const Matrix& rows) {
      std::vector<Segment> segments;
      std::vector<PageTable> page_tables;
      for (size_t i = 0; i < order.size(); ++i) {
        segments.push_back(
            {.row_begin = static_cast<int64_t>(i), .row_count = 1, .position = position(order[i])});
        page_tables.emplace_back(tables[static_cast<size_t>(order[i])]);
      }
      Matrix output(static_cast<int64_t>(order.size()), shape.q_cols());
      cache.run(context(storage.dtype), segments, page_tables, rows, output);
      return output;
    };
    for (int64_t s = 0; s < sequences; ++s) alone.push_back(run({s}, pick_rows({input}, {s})[0]));
    for (int64_t size = 0; size <= sequences; ++size) {
      std::vector<int64_t> order;
      for (int64_t i = 0; i < size; ++i) order.push_back((i * 7 + size) % sequences);
      Matrix rows = pick_rows({input}, order)[0];
      for (float poison : {0.0f, 1e20f, std::nanf("")}) {
        // One row stays, the others are poisoned; or, with 0, all stay.
        for (int64_t i = 1; i < size && poison != 0.0f; ++i) std::fill_n(rows.row(i), rows.cols(), poison);
        const Matrix batch = run(order, rows);
        for (int64_t i = 0; i < (poison == 0.0f ? size : std::min<int64_t>(size, 1)); ++i)
          ASSERT_TRUE(same_bits(batch.row(i),
                                alone[static_cast<size_t>(order[static_cast<size_t>(i)])].row(0),
                                shape.q_cols()));
      }
    }
  }
}

TEST_P(AttentionTest, Fp8PagesOfTheSameNumbersGiveTheBitsOfBFloat16) {
  // Numbers that e4m3 has, subnormal ones too. Scales that are powers of two below 1 lose none of them.
  const int64_t rows = 140;
  const PageTable table = kTable;
  for (const Shape& shape : {kSmall, kUsual, kOdd}) {
    Matrix input = random_matrix(random_, rows, shape.input_cols());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = shape.q_cols(); j < input.cols(); ++j)
        input(i, j) = nearest_e4m3(i % 7 == 0 ? input(i, j) / 512 : input(i, j));
    const Segment all{.row_begin = 0, .row_count = rows};
    Matrix exact(rows, shape.q_cols());
    Cache cache(kBFloat16, shape, 7);
    cache.run(context(DType::kBFloat16), {&all, 1}, {&table, 1}, input, exact);
    for (const KvScales& scales : {KvScales{}, KvScales{.key = 0.25f, .value = 0.5f}}) {
      Matrix output(rows, shape.q_cols());
      Cache fp8({DType::kBFloat16, KvFormat::kFp8, scales}, shape, 7);
      fp8.run(context(DType::kBFloat16), {&all, 1}, {&table, 1}, input, output);
      for (int64_t i = 0; i < rows; ++i)
        ASSERT_TRUE(same_bits(output.row(i), exact.row(i), shape.q_cols()))
            << "row " << i << ", scale " << scales.key;
    }
  }
}

TEST_P(AttentionTest, Fp8SaturatesAndKeepsNan) {
  // One token: its value comes out as it is stored.
  const Shape shape = {1, 1, 6};
  Matrix input(1, shape.input_cols()), output(1, shape.q_cols());
  const std::vector<float> v = {1e30f, -INFINITY, 900.0f, std::nanf(""), 0.0f, -0x1p-10f};
  std::fill_n(input.row(0), input.cols(), 1.0f);
  for (size_t d = 0; d < v.size(); ++d) input(0, 12 + static_cast<int64_t>(d)) = v[d];
  const Segment one{.row_begin = 0, .row_count = 1};
  const PageTable table = kTable;
  Cache cache({DType::kBFloat16, KvFormat::kFp8, {.key = 1, .value = 2}}, shape, 7);
  cache.run(context(DType::kBFloat16), {&one, 1}, {&table, 1}, input, output);
  const std::vector<float> want = {896, -896, 896, std::nanf(""), 0, 0};
  for (size_t d = 0; d < v.size(); ++d) {
    const float is = output(0, static_cast<int64_t>(d));
    EXPECT_TRUE(std::isnan(want[d]) ? std::isnan(is) : is == want[d]) << v[d] << " became " << is;
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const int64_t rows = 130;
  Cache cache(kFloat32, kSmall, 7);
  Matrix input = random_matrix(random_, rows, kSmall.input_cols(), 300.0f);
  Matrix output(rows, kSmall.q_cols());
  const Segment all{.row_begin = 0, .row_count = rows};
  const PageTable table = kTable;
  cache.run(context(DType::kFloat32), {&all, 1}, {&table, 1}, input, output);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < kSmall.q_cols(); ++j) ASSERT_TRUE(std::isfinite(output(i, j)));
}

TEST_P(AttentionTest, RefusesShortPageTables) {
  Cache cache(kFloat32, kSmall, 7);
  const Matrix input = random_matrix(random_, 1, kSmall.input_cols());
  Matrix output(1, kSmall.q_cols());
  const Segment segment{.row_begin = 0, .row_count = 1, .position = 5 * kKvPageTokens};
  const PageTable table = kTable;
  EXPECT_THROW(cache.run(context(DType::kFloat32), {&segment, 1}, {&table, 1}, input, output), Error);
  const std::vector<int32_t> outside = {7};
  const PageTable bad = outside;
  const Segment first{.row_begin = 0, .row_count = 1};
  EXPECT_THROW(cache.run(context(DType::kFloat32), {&first, 1}, {&bad, 1}, input, output), Error);
}

TEST_P(AttentionTest, RefusesScalesThatAreNone) {
  const Matrix input = random_matrix(random_, 1, kSmall.input_cols());
  Matrix output(1, kSmall.q_cols());
  const Segment first{.row_begin = 0, .row_count = 1};
  const PageTable table = kTable;
  for (const float scale : {0.0f, -1.0f, INFINITY, std::nanf("")}) {
    Cache cache({DType::kBFloat16, KvFormat::kFp8, {.key = scale, .value = 1}}, kSmall, 7);
    EXPECT_THROW(cache.run(context(DType::kBFloat16), {&first, 1}, {&table, 1}, input, output), Error);
  }
}

NEMO_INSTANTIATE(AttentionTest);

}  // namespace
}  // namespace nemo::kernels
