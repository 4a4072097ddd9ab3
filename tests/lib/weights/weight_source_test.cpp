// Opening folders of safetensors: what is read, and every way a file can be wrong.
#include "lib/weights/weight_source.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/lib/config/testing.h"
#include "tests/lib/weights/safetensors_writer.h"

namespace nemo {
namespace {

std::vector<int> read_bytes(const WeightSource& source, const TensorInfo& tensor, uint64_t begin,
                            size_t count) {
  std::vector<std::byte> bytes(count);
  source.read(tensor, begin, bytes);
  std::vector<int> values;
  for (const std::byte byte : bytes) values.push_back(std::to_integer<int>(byte));
  return values;
}

std::string two_tensors() {
  return R"({"a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]},"b":{"dtype":"F32","shape":[],"data_offsets":[6,10]}})";
}

TEST(SingleFile, IsReadByPieces) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", raw_safetensors(two_tensors() + "   ", 10));
  const auto source = open_checkpoint(folder.path());
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(source->find("c"), nullptr);
  const TensorInfo* a = source->find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kU8);
  EXPECT_EQ(shape_text(a->shape), "[2, 3]");
  EXPECT_EQ(a->num_elements(), 6);
  EXPECT_EQ(a->file, folder / "model.safetensors");
  EXPECT_EQ(source->bytes_read(), 0u);  // headers do not count
  EXPECT_EQ(read_bytes(*source, *a, 0, 6), (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(read_bytes(*source, *a, 4, 2), (std::vector<int>{4, 5}));
  EXPECT_EQ(read_bytes(*source, *source->find("b"), 0, 4), (std::vector<int>{6, 7, 8, 9}));
  EXPECT_EQ(source->find("b")->num_elements(), 1);
  EXPECT_EQ(source->bytes_read(), 12u);
  EXPECT_NE(error_of([&] { read_bytes(*source, *a, 4, 3); }).find("broken invariant"), std::string::npos);
}

TEST(SingleFile, EmptyTensorsAreAllowed) {
  const TemporaryFolder folder;
  folder.write("model.safetensors",
               raw_safetensors(R"({"z":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
                               R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                               2));
  EXPECT_EQ(open_checkpoint(folder.path())->find("z")->num_elements(), 0);
}

TEST(Shards, AreFoundByTheIndex) {
  const TemporaryFolder folder;
  folder.write("s1.safetensors", raw_safetensors(two_tensors(), 10));
  folder.write("s2.safetensors",
               raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  // `a` is in both; the index decides which one is meant.
  folder.write("model.safetensors.index.json",
               R"({"metadata":{"total_size":5},"weight_map":{"a":"s2.safetensors","b":"s1.safetensors"}})");
  const auto source = open_checkpoint(folder.path());
  EXPECT_EQ(source->find("a")->file, folder / "s2.safetensors");
  EXPECT_EQ(read_bytes(*source, *source->find("a"), 0, 1), (std::vector<int>{0}));
  EXPECT_EQ(read_bytes(*source, *source->find("b"), 0, 1), (std::vector<int>{6}));
}

std::string refuse_index(const std::string& index) {
  const TemporaryFolder folder;
  folder.write("s1.safetensors", raw_safetensors(two_tensors(), 10));
  folder.write("model.safetensors.index.json", index);
  return error_of([&] { open_checkpoint(folder.path()); });
}

TEST(Shards, WrongIndexes) {
  EXPECT_NE(
      refuse_index(R"({"weight_map":{"a":"s9.safetensors"}})").find("/s9.safetensors: is missing, but "),
      std::string::npos);
  EXPECT_NE(refuse_index(R"({"weight_map":{"c":"s1.safetensors"}})")
                .find("/s1.safetensors: tensor \"c\": is missing, but "),
            std::string::npos);
  EXPECT_NE(refuse_index(R"({"weight_map":{"a":"../s1.safetensors"}})")
                .find("\"../s1.safetensors\" is not a file name"),
            std::string::npos);
  EXPECT_NE(refuse_index(R"({"weight_map":{"a":5}})").find("tensor \"a\": 5 is not a file name"),
            std::string::npos);
  EXPECT_NE(refuse_index(R"({"weight_map":{}})").find("names no tensor"), std::string::npos);
  EXPECT_NE(refuse_index(R"({"weight_map":[]})").find("has no weight_map"), std::string::npos);
  EXPECT_NE(refuse_index(R"([])").find("has no weight_map"), std::string::npos);
  EXPECT_NE(refuse_index("{").find("not valid JSON"), std::string::npos);
  EXPECT_NE(
      refuse_index(R"({"weight_map":{"a":"s1.safetensors","a":"s1.safetensors"}})").find("is given twice"),
      std::string::npos);
}

TEST(OtherFormats, AreRefusedByName) {
  const auto refuse = [](const std::string& name) {
    const TemporaryFolder folder;
    folder.write(name, "x");
    return error_of([&] { open_checkpoint(folder.path()); });
  };
  EXPECT_NE(refuse("pytorch_model.bin").find("holds pytorch_model.bin, a pickled checkpoint"),
            std::string::npos);
  EXPECT_NE(refuse("x.gguf").find("holds x.gguf, a GGUF file"), std::string::npos);
  EXPECT_NE(refuse("other.safetensors").find("holds other.safetensors, but no model.safetensors"),
            std::string::npos);
  EXPECT_NE(refuse("config.json").find("has no safetensors"), std::string::npos);
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { open_checkpoint(folder.write("a.h5", "x")); }).find("is no HDF5 file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { open_checkpoint(folder.write("a.gguf", "x")); }).find("is a GGUF file"),
            std::string::npos);
  EXPECT_NE(error_of([&] { open_checkpoint(folder.write("a.txt", "x")); }).find("is not a folder"),
            std::string::npos);
  EXPECT_NE(error_of([&] { open_checkpoint(folder / "none"); }).find("does not exist"), std::string::npos);
}

/// The error of a folder whose one file has that content.
std::string refuse_file(const std::string& content) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", content);
  const std::string error = error_of([&] { open_checkpoint(folder.path()); });
  EXPECT_NE(error.find("model.safetensors"), std::string::npos) << error;
  return error;
}

TEST(WrongFiles, Lengths) {
  EXPECT_NE(refuse_file("abc").find("has 3 bytes; a safetensors file has at least 8"), std::string::npos);
  EXPECT_NE(refuse_file("").find("has 0 bytes"), std::string::npos);
  EXPECT_NE(refuse_file(std::string(8, '\xff'))
                .find("says its header has 18446744073709551615 bytes, in a file of 8"),
            std::string::npos);
  const std::string whole = raw_safetensors(two_tensors(), 10);
  EXPECT_NE(refuse_file(whole.substr(0, 20)).find("says its header has"), std::string::npos);
  EXPECT_NE(
      refuse_file(whole.substr(0, whole.size() - 1)).find("tensor \"b\": has data_offsets [6,10], outside"),
      std::string::npos);
  EXPECT_NE(refuse_file(whole + "x").find("has 1 bytes after the last tensor"), std::string::npos);
  EXPECT_NE(refuse_file(raw_safetensors("", 0)).find("its header is no JSON object"), std::string::npos);
  EXPECT_NE(refuse_file(raw_safetensors(" {}", 0)).find("its header is no JSON object"), std::string::npos);
}

struct WrongHeader {
  std::string header;
  std::string expected;
};

class WrongHeaders : public testing::TestWithParam<WrongHeader> {};

TEST_P(WrongHeaders, NameTheTensor) {
  const std::string error = refuse_file(raw_safetensors(GetParam().header, 10));
  EXPECT_NE(error.find(GetParam().expected), std::string::npos) << error;
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongHeaders,
    testing::Values(
        WrongHeader{R"({"a":5})", "tensor \"a\": is not described by an object"},
        WrongHeader{R"({"a":{}})", "tensor \"a\": has no dtype"},
        WrongHeader{R"({"a":{"dtype":"F4"}})", "tensor \"a\": has the unknown dtype \"F4\""},
        WrongHeader{R"({"a":{"dtype":"U8"}})", "tensor \"a\": has no shape"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[-1]}})", "tensor \"a\": has -1 in its shape"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[10]}})", "tensor \"a\": has no pair of data_offsets"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[10],"data_offsets":[0]}})", "has no pair of data_offsets"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[10],"data_offsets":[5,3]}})",
                    "has data_offsets [5,3], outside"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[11],"data_offsets":[0,11]}})",
                    "has data_offsets [0,11], outside"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[10],"data_offsets":[-1,9]}})",
                    "has data_offsets [-1,9], outside"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,10]}})",
                    "tensor \"a\": has 10 bytes, which is not U8 [9]"},
        WrongHeader{R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
                    "has 0 bytes, which is not F32 [4611686018427387904, 4]"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},)"
                    R"("b":{"dtype":"U8","shape":[6],"data_offsets":[4,10]}})",
                    "tensor \"b\": overlaps the tensor before it"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                    R"("b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
                    "tensor \"b\": leaves a gap before it"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
                    "tensor \"a\": leaves a gap"},
        WrongHeader{R"({"a":{"dtype":"U8","shape":[10],"data_offsets":[0,10]},"a":{}})",
                    "key \"a\" is given twice"},
        WrongHeader{R"({"a":)", "not valid JSON"}));

TEST(Read, AFileThatShrankIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder.write("model.safetensors", raw_safetensors(two_tensors(), 10));
  const auto source = open_checkpoint(folder.path());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 2);
  const std::string error = error_of([&] { read_bytes(*source, *source->find("b"), 0, 4); });
  EXPECT_NE(error.find("model.safetensors: tensor b: the file ends at byte "), std::string::npos) << error;
  EXPECT_NE(error.find("2 bytes too early"), std::string::npos) << error;
}

TEST(Mutations, OfAFileGiveASourceOrAnError) {
  SafetensorsWriter writer;
  for (int i = 0; i < 6; ++i) {
    writer.add("backbone.layers." + std::to_string(i) + ".norm.weight", DType::kF32, {2, 3},
               std::vector<float>(6, 1.0f));
  }
  const std::string text = writer.text();
  const TemporaryFolder folder;
  std::mt19937 random(42);
  int num_errors = 0;
  for (int i = 0; i < 500; ++i) {
    std::string mutated = text;
    for (int change = 0; change <= i % 3; ++change) {
      mutated[random() % mutated.size()] ^= static_cast<char>(1 << random() % 8);
    }
    if (i % 7 == 0) mutated.resize(random() % mutated.size());
    folder.write("model.safetensors", mutated);
    try {
      const auto source = open_checkpoint(folder.path());
      for (const std::string& name : source->names()) {
        const TensorInfo* tensor = source->find(name);
        std::vector<std::byte> bytes(tensor->num_bytes);
        source->read(*tensor, 0, bytes);
      }
    } catch (const Error&) {
      ++num_errors;
    }
  }
  EXPECT_GT(num_errors, 250);
}

}  // namespace
}  // namespace nemo
