#include "lib/weights/synthetic/shard_writer.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "lib/output/files.h"

namespace nemo {
namespace {

using nlohmann::json;

constexpr uint64_t kPieceBytes = uint64_t{64} << 20;  // filled by all threads, then written
constexpr uint64_t kTaskBytes = uint64_t{1} << 20;

/// Consecutive tensors that make one file.
using Shard = std::span<const RandomTensor>;

std::vector<Shard> divide(std::span<const RandomTensor> tensors, uint64_t max_shard_bytes) {
  std::vector<Shard> shards;
  size_t begin = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t more = tensors[i].num_bytes();
    if (i > begin && bytes + more > max_shard_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += more;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

std::string shard_name(size_t idx, size_t num_shards) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", idx + 1, num_shards);
  return name;
}

/// Length and JSON, padded so that the tensors begin at a multiple of 8.
std::string header_text(Shard shard) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t offset = 0;
  for (const RandomTensor& tensor : shard) {
    header[tensor.name] = {{"dtype", dtype_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.num_bytes()}}};
    offset += tensor.num_bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> (8 * i));
  return length + text;
}

/// Collects the bytes of small tensors, so that a write is always large.
class PieceWriter {
 public:
  PieceWriter(kernels::ThreadPool& threads, const std::string& path, uint64_t seed)
      : threads_(threads), path_(path), file_(open_file(path, O_WRONLY | O_CREAT | O_EXCL)), seed_(seed) {
    buffer_.reserve(kPieceBytes);
  }

  void write(const RandomTensor& tensor) {
    const uint64_t end = tensor.num_bytes();
    for (uint64_t begin = 0; begin < end;) {
      const uint64_t room = (kPieceBytes - buffer_.size()) / kRandomGrain * kRandomGrain;
      const uint64_t count = std::min(room, end - begin);
      if (count == 0) {
        flush();
        continue;
      }
      append(tensor, begin, count);
      begin += count;
    }
  }

  void flush() {
    write_all(file_, {reinterpret_cast<const char*>(buffer_.data()), buffer_.size()}, path_);
    buffer_.clear();
  }

  const FileDescriptor& file() const { return file_; }

 private:
  void append(const RandomTensor& tensor, uint64_t begin, uint64_t count) {
    const size_t old_size = buffer_.size();
    buffer_.resize(old_size + count);
    const std::span<std::byte> out = std::span(buffer_).subspan(old_size);
    const auto num_tasks = static_cast<int64_t>((count + kTaskBytes - 1) / kTaskBytes);
    threads_.run(num_tasks, [&](int64_t task) {
      const uint64_t first = static_cast<uint64_t>(task) * kTaskBytes;
      fill_random(tensor, seed_, begin + first, out.subspan(first, std::min(kTaskBytes, count - first)));
    });
  }

  kernels::ThreadPool& threads_;
  const std::string& path_;
  FileDescriptor file_;
  uint64_t seed_;
  std::vector<std::byte> buffer_;
};

void write_shard(kernels::ThreadPool& threads, const std::string& path, Shard shard, uint64_t seed) {
  PieceWriter writer(threads, path, seed);
  write_all(writer.file(), header_text(shard), path);
  for (const RandomTensor& tensor : shard) writer.write(tensor);
  writer.flush();
  sync_file(writer.file(), path);
}

}  // namespace

void write_shards(kernels::ThreadPool& threads, const std::string& folder,
                  std::span<const RandomTensor> tensors, uint64_t seed, uint64_t max_shard_bytes) {
  const std::vector<Shard> shards = divide(tensors, max_shard_bytes);
  json weight_map = json::object();
  uint64_t total_bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_shard(threads, folder + "/" + name, shards[i], seed);
    for (const RandomTensor& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      total_bytes += tensor.num_bytes();
    }
  }
  AtomicFile index(folder + "/model.safetensors.index.json");
  index.write(json{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}}.dump(1) + "\n");
  index.publish();
}

}  // namespace nemo
