// Generator: texts in, texts out in one process; and the trained checkpoint against the reference's numbers.
#include "lib/model/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "kernels/error.h"
#include "tests/lib/model/golden.h"
#include "tests/lib/text/temporary_folder.h"

namespace nemo {
namespace {

using kernels::DType;
using kernels::TensorView;

const std::string kCheckpoint = std::string(NEMO_SOURCE_DIR) + "/configs/checkpoints/kjv-wordnet-7m";
const std::string kHeldOut = std::string(NEMO_SOURCE_DIR) + "/tests/golden/heldout/";

nlohmann::json read_json(const std::string& path) {
  nlohmann::json json;
  std::ifstream(path) >> json;
  return json;
}

Generator& trained() {
  static Generator generator = Generator::open(kCheckpoint, {.dtype = DType::kFloat32, .threads = 2});
  return generator;
}

Record score(Generator& generator, std::vector<int32_t> context, std::vector<int32_t> continuation) {
  Request request;
  request.task = Task::kScore;
  request.prompt_ids = std::move(context);
  request.continuation_ids = std::move(continuation);
  return generator.run(request);
}

TEST(GeneratorTest, TheSameCallGivesTheSameOutput) {
  const SamplingParams sampling{.max_tokens = 20, .temperature = 0.8, .seed = 3, .logprobs = 2};
  const Output first = trained().generate("In the beginning", sampling);
  EXPECT_FALSE(first.text.empty());
  EXPECT_LE(first.token_ids.size(), 20u);
  EXPECT_EQ(first.logprobs.size(), first.token_ids.size());
  EXPECT_EQ(first.top_logprobs.size(), first.token_ids.size());
  trained().generate("Something else in between", sampling);
  EXPECT_EQ(trained().generate("In the beginning", sampling), first);
}

TEST(GeneratorTest, ThreadsDoNotMatter) {
  Generator one = Generator::open(kCheckpoint, {.dtype = DType::kBFloat16, .threads = 1});
  Generator three = Generator::open(kCheckpoint, {.dtype = DType::kBFloat16, .threads = 3});
  const SamplingParams sampling{.max_tokens = 16, .logprobs = 1};
  EXPECT_EQ(one.generate("And it came to pass", sampling), three.generate("And it came to pass", sampling));
}

TEST(GeneratorTest, SamplesAreNumberedAndDiffer) {
  Request request;
  request.id = "a";
  request.prompt_ids = trained().tokenizer().encode("The LORD", AddSpecialTokens::kYes);
  request.sampling = {.max_tokens = 16, .n = 3};
  const Record record = trained().run(request);
  ASSERT_EQ(record.outputs.size(), 3u);
  EXPECT_NE(record.outputs[0].token_ids, record.outputs[1].token_ids);
  EXPECT_NE(record.outputs[1].token_ids, record.outputs[2].token_ids);
  request.sampling.n = 1;
  EXPECT_EQ(trained().run(request).outputs.front(), record.outputs.front());
}

TEST(GeneratorTest, ScoresOfWhatWasGeneratedAreTheGeneratedLogprobs) {
  const SamplingParams sampling{.max_tokens = 70, .ignore_eos = true, .logprobs = 1};
  const Output output = trained().generate("And the king said", sampling);
  const auto prompt = trained().tokenizer().encode("And the king said", AddSpecialTokens::kYes);
  const Record record = score(trained(), prompt, output.token_ids);
  ASSERT_EQ(record.score->logprobs.size(), output.logprobs.size());
  for (size_t i = 0; i < output.logprobs.size(); ++i)
    EXPECT_EQ(record.score->logprobs[i], output.logprobs[i]) << "token " << i;  // to the bit
}

TEST(GeneratorTest, GreedyIsWhatScoringCallsGreedy) {
  const Output output = trained().generate("Blessed are", {.max_tokens = 12, .temperature = 0});
  const auto prompt = trained().tokenizer().encode("Blessed are", AddSpecialTokens::kYes);
  EXPECT_TRUE(score(trained(), prompt, output.token_ids).score->is_greedy);
  std::vector<int32_t> other = output.token_ids;
  other.back() = (other.back() + 1) % static_cast<int32_t>(trained().config().vocab_size);
  EXPECT_FALSE(score(trained(), prompt, other).score->is_greedy);
}

TEST(GeneratorTest, PromptsWithoutRoomAreRefused) {
  Request request;
  request.prompt_ids.assign(static_cast<size_t>(trained().config().max_position_embeddings), 5);
  EXPECT_THROW(trained().run(request), Error);
  request.prompt_ids.clear();
  EXPECT_THROW(trained().run(request), Error);
}

TEST(GeneratorTest, TheContextEndsAnOutput) {
  const auto most = static_cast<size_t>(trained().config().max_position_embeddings);
  Request request;
  request.prompt_ids.assign(most - 3, 5);
  request.sampling = {.max_tokens = 50, .temperature = 0, .ignore_eos = true};
  const Output output = trained().run(request).outputs.front();
  EXPECT_EQ(output.token_ids.size(), 3u);
  EXPECT_EQ(output.finish_reason, "length");
}

// With tied embeddings the embedding's rows are the output projection, whatever lm_head the file may hold.
TEST(GeneratorTest, TiedEmbeddingsProjectWithTheEmbedding) {
  const TemporaryFolder folder;
  const std::string original = test::golden_folder("dense");
  std::ifstream config_file(original + "/config.json");
  std::string config_text(std::istreambuf_iterator<char>(config_file), {});
  const size_t at = config_text.find("\"tie_word_embeddings\": false");
  ASSERT_NE(at, std::string::npos);
  config_text.replace(at, 28, "\"tie_word_embeddings\": true");
  folder.write("config.json", config_text);
  std::filesystem::create_symlink(original + "/model.safetensors", folder.path() / "model.safetensors");

  SerialModel model(folder.path().string(), {.dtype = DType::kFloat32});
  ASSERT_TRUE(model.config().tie_word_embeddings);
  const Checkpoint checkpoint = Checkpoint::open(folder.path().string(), model.config());
  const auto embedding = checkpoint.read_f32(tensor_name(TensorRole::kEmbedding, 0));
  const auto norm = checkpoint.read_f32(tensor_name(TensorRole::kFinalNorm, 0));
  const std::vector<int32_t> prompt = {5, 9, 17};
  const auto stream = model.forward(prompt).slice_rows(2, 1);
  const int64_t hidden = model.config().hidden_size, vocabulary = model.config().vocab_size;
  std::vector<float> logits(static_cast<size_t>(vocabulary));
  model.logits(stream, TensorView<float>(logits.data(), 1, vocabulary));

  double squares = 0;
  for (int64_t j = 0; j < hidden; ++j) squares += std::pow(stream.row(0)[j], 2);
  const double scale =
      1 / std::sqrt(squares / static_cast<double>(hidden) + model.config().layer_norm_epsilon);
  for (int64_t id = 0; id < vocabulary; ++id) {
    double expected = 0;
    for (int64_t j = 0; j < hidden; ++j)
      expected += stream.row(0)[j] * scale * norm[static_cast<size_t>(j)] *
                  embedding[static_cast<size_t>(id * hidden + j)];
    EXPECT_NEAR(logits[static_cast<size_t>(id)], expected, 1e-5 * std::max(1.0, std::abs(expected))) << id;
  }
}

// float32 sums in another order: the reference is within 1e-5 of float64 a logit; errors of a document's
// tokens do not add up in one direction, so 1e-3 nats a document is ample, and a wrong formula is off by
// whole nats.
TEST(TrainedCheckpointTest, ScoresHeldOutTextAsTheReference) {
  if (!std::filesystem::exists(kHeldOut + "expected.json"))
    GTEST_SKIP() << "tests/golden/heldout/expected.json is not there";
  const nlohmann::json expected = read_json(kHeldOut + "expected.json").at("documents");
  std::ifstream file(kHeldOut + "documents.jsonl");
  std::string line;
  size_t compared = 0;
  for (size_t i = 0; std::getline(file, line); ++i) {
    if (i % 8 != 0) continue;  // some of both kinds, for time
    const nlohmann::json document = nlohmann::json::parse(line);
    const nlohmann::json& numbers = expected.at(i);
    const auto encode = [](const nlohmann::json& text) {
      return trained().tokenizer().encode(text.get<std::string>(), AddSpecialTokens::kNo);
    };
    const Record record =
        score(trained(), encode(document.at("context")), encode(document.at("continuation")));
    EXPECT_EQ(record.score->token_ids.size(), numbers.at("tokens").get<size_t>()) << document.at("id");
    const double nats = numbers.at("nats_float32").get<double>();
    EXPECT_NEAR(-record.score->sum_logprob, nats, 1e-3 + 1e-5 * nats) << document.at("id");
    ++compared;
  }
  EXPECT_GT(compared, 10u);
}

TEST(TrainedCheckpointTest, ContinuesGreedilyAsTheReference) {
  if (!std::filesystem::exists(kHeldOut + "greedy.json"))
    GTEST_SKIP() << "tests/golden/heldout/greedy.json is not there";
  for (const nlohmann::json& expected : read_json(kHeldOut + "greedy.json")) {
    Request request;
    request.prompt_ids = expected.at("prompt_token_ids").get<std::vector<int32_t>>();
    const auto token_ids = expected.at("token_ids").get<std::vector<int32_t>>();
    request.sampling = {
        .max_tokens = static_cast<int64_t>(token_ids.size()), .temperature = 0, .ignore_eos = true};
    EXPECT_EQ(trained().run(request).outputs.front().token_ids, token_ids) << expected.at("text");
  }
}

}  // namespace
}  // namespace nemo
