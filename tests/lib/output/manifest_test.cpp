#include "lib/output/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/lib/output/support.h"

namespace nemo {
namespace {

using test::read_file;
using test::TempFolder;

Manifest full_manifest() {
  Manifest manifest;
  manifest.name = "psalms";
  manifest.status = RunStatus::kComplete;
  manifest.fingerprints = {{"model", "aa"}, {"input", "bb"}};
  manifest.guarantee = {"same bits on any layout", "avx2", "bfloat16", "bfloat16", "0.1.0 gcc 12.2"};
  manifest.num_requests = 150;
  manifest.num_done = 150;
  manifest.num_resumed = 20;
  manifest.totals = {150, 1, 149, 1000, 2000, 3000};
  manifest.computed_tokens = 3500;
  manifest.recomputed_tokens = 500;
  manifest.layout = {4, 1, 2, 2, 8, {"n1", "n2"}};
  manifest.weight_bytes = {{70, 80, 90, 90}, {71, 81, 91, 91}};
  manifest.communication = {{"copies_per_token", 3.5}};
  manifest.versions = {{"nemo-dist", "0.1.0"}};
  manifest.timings_s = {{"load", 1.5}, {"generate", 60.25}};
  manifest.result_files = {"results.jsonl"};
  return manifest;
}

TEST(Manifest, HoldsEverything) {
  const auto json = nlohmann::json::parse(to_json(full_manifest()));
  EXPECT_EQ(json, nlohmann::json::parse(R"({"schema_version": 1, "name": "psalms", "task": "generate",
    "status": "complete", "fingerprints": {"model": "aa", "input": "bb"},
    "guarantee": {"promise": "same bits on any layout", "instruction_set": "avx2", "dtype": "bfloat16",
                  "kv_cache": "bfloat16", "build": "0.1.0 gcc 12.2"},
    "counts": {"requests": 150, "done": 150, "resumed": 20, "errors": 1, "outputs": 149,
               "prompt_tokens": 1000, "output_tokens": 2000, "computed_tokens": 3500,
               "recomputed_tokens": 500},
    "versions": {"nemo-dist": "0.1.0"}, "timings_s": {"load": 1.5, "generate": 60.25},
    "layout": {"world_size": 4, "replicas": 1, "pipeline": 2, "expert": 2, "threads": 8,
               "hosts": ["n1", "n2"]},
    "weight_bytes": {"read": [70, 80, 90, 90], "planned": [71, 81, 91, 91]},
    "communication": {"copies_per_token": 3.5},
    "result_files": ["results.jsonl"]})"));
}

TEST(Manifest, EmptyListsStayLists) {
  const auto json = nlohmann::json::parse(to_json(Manifest{}));
  EXPECT_TRUE(json["result_files"].is_array());
  EXPECT_TRUE(json["versions"].is_object());
  EXPECT_TRUE(json["layout"]["hosts"].is_array());
  EXPECT_TRUE(json["weight_bytes"]["read"].is_array());
}

TEST(Manifest, IsReplacedWhole) {
  const TempFolder folder;
  Manifest manifest = full_manifest();
  write_manifest(folder / "manifest.json", manifest);
  manifest.status = RunStatus::kStopped;
  manifest.layout.hosts = {"\xff"};
  write_manifest(folder / "manifest.json", manifest);
  EXPECT_EQ(nlohmann::json::parse(read_file(folder / "manifest.json"))["status"], "stopped");
  EXPECT_FALSE(std::filesystem::exists(folder / "manifest.json.partial"));
}

TEST(AtomicFile, LeavesTheOldOneIfNotPublished) {
  const TempFolder folder;
  test::write_file(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / "x.partial"));
}

}  // namespace
}  // namespace nemo
