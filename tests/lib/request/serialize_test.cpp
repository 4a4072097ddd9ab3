#include "lib/request/serialize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/lib/output/support.h"

namespace nemo {
namespace {

using test::RecordMaker;

Request full_request() {
  Request request;
  request.index = 123456789012345;
  request.id = std::string("a\0b\xff", 4);
  request.task = Task::kScore;
  request.form = LineForm::kOpenAiCompletion;
  request.prompt_ids = {1, -2, std::numeric_limits<int32_t>::max()};
  request.continuation_ids = {7};
  request.sampling = {.max_tokens = 1,
                      .min_tokens = 2,
                      .temperature = 0.3,
                      .top_p = 0.9,
                      .top_k = 4,
                      .min_p = 0.05,
                      .n = 6,
                      .seed = std::numeric_limits<uint64_t>::max(),
                      .repetition_penalty = 1.1,
                      .frequency_penalty = -0.5,
                      .presence_penalty = 0.25,
                      .stop = {"", "\n\n", "END"},
                      .stop_token_ids = {11, 12},
                      .ignore_eos = true,
                      .logprobs = 20};
  request.metadata_json = R"({"k": [1, 2]})";
  request.prior_outputs = {{.token_ids = {5, 6}, .logprobs = {-1, -0.0f}, .top_logprobs = {{{5, -1}}, {}}},
                           {.text = "done", .token_ids = {7}, .finish_reason = "stop"}};
  return request;
}

void expect_equal(const Request& a, const Request& b) {
  EXPECT_EQ(a.index, b.index);
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.task, b.task);
  EXPECT_EQ(a.form, b.form);
  EXPECT_EQ(a.prompt_ids, b.prompt_ids);
  EXPECT_EQ(a.continuation_ids, b.continuation_ids);
  EXPECT_EQ(a.sampling, b.sampling);
  EXPECT_EQ(a.metadata_json, b.metadata_json);
  EXPECT_EQ(a.prior_outputs, b.prior_outputs);
}

TEST(Serialize, RequestsComeBack) {
  expect_equal(request_from_bytes(to_bytes(full_request())), full_request());
  expect_equal(request_from_bytes(to_bytes(Request{})), Request{});
}

TEST(Serialize, ProgressComesBack) {
  const SampleProgress progress{7, 3, {.token_ids = {1, 2}, .logprobs = {-0.5f, -2}}};
  EXPECT_EQ(sample_progress_from_bytes(to_bytes(progress)), progress);
  EXPECT_THROW(record_from_bytes(to_bytes(progress)), Error);
}

TEST(Serialize, RandomRecordsComeBack) {
  RecordMaker make(1);
  for (int64_t i = 0; i < 500; ++i) {
    const Record record = make.any(i);
    EXPECT_EQ(record_from_bytes(to_bytes(record)), record);
  }
}

TEST(Serialize, FloatsKeepTheirBits) {
  const float quiet_with_payload = std::bit_cast<float>(0x7fc12345u);
  const float values[] = {0.0f,
                          -0.0f,
                          quiet_with_payload,
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::denorm_min()};
  Record record;
  record.outputs.resize(1);
  record.outputs[0].logprobs.assign(std::begin(values), std::end(values));
  record.outputs[0].top_logprobs = {{{1, quiet_with_payload}}, {}};
  record.score.emplace().sum_logprob = std::bit_cast<double>(0xfff8000000000001u);
  const Record back = record_from_bytes(to_bytes(record));
  for (size_t i = 0; i < std::size(values); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(back.outputs[0].logprobs[i]), std::bit_cast<uint32_t>(values[i]));
  }
  EXPECT_EQ(std::bit_cast<uint32_t>(back.outputs[0].top_logprobs[0][0].logprob), 0x7fc12345u);
  EXPECT_EQ(std::bit_cast<uint64_t>(back.score->sum_logprob), 0xfff8000000000001u);
}

TEST(Serialize, ShorterAndLongerBytesAreErrors) {
  RecordMaker make(2);
  for (const std::string& bytes :
       {to_bytes(make.generated(3, 2, 2)), to_bytes(make.scored(4)), to_bytes(make.failed(5))}) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THROW(record_from_bytes(std::string_view(bytes).substr(0, size)), Error) << size;
    }
    EXPECT_THROW(record_from_bytes(bytes + "x"), Error);
  }
  const std::string bytes = to_bytes(full_request());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(request_from_bytes(std::string_view(bytes).substr(0, size)), Error) << size;
  }
}

TEST(Serialize, OtherKindsVersionsAndChoicesAreErrors) {
  EXPECT_THROW(record_from_bytes(to_bytes(Request{})), Error);
  EXPECT_THROW(request_from_bytes(to_bytes(Record{})), Error);
  std::string bytes = to_bytes(Record{});
  bytes[1] = 2;
  EXPECT_NE(test::error_of([&] { record_from_bytes(bytes); }).find("version 2"), std::string::npos);
  bytes = to_bytes(Record{});
  bytes[2 + 8 + 4] = 9;  // the task, behind kind, version, index and the size of the empty id
  EXPECT_THROW(record_from_bytes(bytes), Error);
}

// Whatever bit is flipped, the answer is a record or an Error, and memory stays within a small multiple of
// the bytes (a count of 2^32 would end the test).
TEST(Serialize, HostileBytesAreHarmless) {
  RecordMaker make(3);
  const std::string bytes = to_bytes(make.generated(3, 3, 2));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    try {
      const Record record = record_from_bytes(bad);
      EXPECT_EQ(to_bytes(record), bad);
    } catch (const Error&) {
    }
  }
  for (int i = 0; i < 20000; ++i) {
    std::string noise = "R\x01";
    for (int64_t size = make.up_to(200); size > 0; --size) noise += static_cast<char>(make.up_to(255));
    try {
      record_from_bytes(noise);
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace nemo
