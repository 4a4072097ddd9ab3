#include "lib/output/journal_index.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace nemo {
namespace {

// A slot is segment << 40 | offset. Offsets start behind the segment's header, so 0 can mean "not done".
constexpr int kOffsetBits = 40;
constexpr int64_t kMaxOffset = int64_t{1} << kOffsetBits;
constexpr int64_t kMaxSegment = int64_t{1} << (64 - kOffsetBits);

}  // namespace

RecordTraits traits_of(const Record& record) {
  RecordTraits traits;
  traits.has_several_outputs = record.outputs.size() > 1;
  traits.has_metadata = !record.metadata_json.empty();
  traits.has_error = record.error.has_value();
  for (const Output& output : record.outputs) {
    traits.has_logprobs |= !output.logprobs.empty();
    for (const auto& top : output.top_logprobs) {
      traits.top_k = std::max(traits.top_k, static_cast<int64_t>(top.size()));
    }
  }
  return traits;
}

uint64_t JournalIndex::slot(int64_t index) const {
  if (index < 0 || index >= static_cast<int64_t>(pages_.size()) * kPageSlots) return 0;
  const auto& page = pages_[static_cast<size_t>(index / kPageSlots)];
  return page ? (*page)[static_cast<size_t>(index % kPageSlots)] : 0;
}

std::optional<JournalLocation> JournalIndex::find(int64_t index) const {
  const uint64_t packed = slot(index);
  if (packed == 0) return std::nullopt;
  return JournalLocation{static_cast<int64_t>(packed >> kOffsetBits),
                         static_cast<int64_t>(packed & static_cast<uint64_t>(kMaxOffset - 1))};
}

bool JournalIndex::insert(int64_t index, JournalLocation location, const RecordTraits& traits) {
  if (index < 0 || index >= kMaxRequests || location.segment < 1 || location.segment >= kMaxSegment ||
      location.offset < 1 || location.offset >= kMaxOffset) {
    throw Error("journal",
                "request " + std::to_string(index) + " at offset " + std::to_string(location.offset) +
                    " of segment " + std::to_string(location.segment) + " is out of range",
                "split the input into several jobs");
  }
  if (done(index)) return false;
  const auto page_idx = static_cast<size_t>(index / kPageSlots);
  if (page_idx >= pages_.size()) pages_.resize(page_idx + 1);
  if (!pages_[page_idx]) pages_[page_idx] = std::make_unique<Page>();
  (*pages_[page_idx])[static_cast<size_t>(index % kPageSlots)] =
      static_cast<uint64_t>(location.segment) << kOffsetBits | static_cast<uint64_t>(location.offset);
  progress_.erase(progress_.lower_bound({index, 0}), progress_.lower_bound({index + 1, 0}));
  ++num_done_;
  num_errors_ += traits.has_error;
  traits_.has_logprobs |= traits.has_logprobs;
  traits_.has_several_outputs |= traits.has_several_outputs;
  traits_.has_metadata |= traits.has_metadata;
  traits_.has_error |= traits.has_error;
  traits_.top_k = std::max(traits_.top_k, traits.top_k);
  return true;
}

void JournalIndex::insert_progress(int64_t index, int64_t sample, JournalLocation location) {
  if (!done(index)) progress_[{index, sample}] = location;
}

std::optional<JournalLocation> JournalIndex::find_progress(int64_t index, int64_t sample) const {
  const auto found = progress_.find({index, sample});
  if (found == progress_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<int64_t, int64_t>> JournalIndex::in_progress() const {
  std::vector<std::pair<int64_t, int64_t>> keys;
  keys.reserve(progress_.size());
  for (const auto& [key, location] : progress_) keys.push_back(key);
  return keys;
}

int64_t JournalIndex::memory_bytes() const {
  const auto num_pages =
      std::count_if(pages_.begin(), pages_.end(), [](const auto& page) { return page != nullptr; });
  return num_pages * static_cast<int64_t>(sizeof(Page)) +
         static_cast<int64_t>(pages_.capacity() * sizeof(std::unique_ptr<Page>));
}

}  // namespace nemo
