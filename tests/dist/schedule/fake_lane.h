// A lane without a model: what stages do with a StepMessage, down to keeping tokens in pages, with a pure
// function of the tokens in place of logits. Checks every message, and any state that is mixed up changes the
// tokens it answers with.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "dist/schedule/scheduler.h"
#include "dist/schedule/step_message.h"
#include "kernels/ops/attention.h"
#include "tests/lib/sampling/letter_tokenizer.h"

namespace nemo::dist::testing {

constexpr int64_t kPageTokens = kernels::kKvPageTokens;

inline uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ (hash >> 29);
}

inline uint64_t hash_of(const std::vector<int32_t>& tokens, uint64_t seed) {
  for (const int32_t token : tokens) seed = mix(seed, static_cast<uint64_t>(token) + 1);
  return seed;
}

/// The next token of sample `sample`; about one in 40 is the end token.
inline SampledToken draw(const std::vector<int32_t>& tokens, uint64_t request_hash, int64_t sample) {
  const uint64_t hash = hash_of(tokens, mix(request_hash, static_cast<uint64_t>(sample)));
  const auto letter = static_cast<int32_t>(hash % 40);
  const int32_t token_id = letter < nemo::testing::kNumTokens ? letter : static_cast<int32_t>(hash % 23);
  return {token_id, -static_cast<float>(hash % 1000) / 128, {}};
}

inline float target_logprob(const std::vector<int32_t>& tokens, int32_t target) {
  return -static_cast<float>(mix(hash_of(tokens, 3), static_cast<uint64_t>(target)) % 4096) / 256;
}

inline bool target_is_argmax(const std::vector<int32_t>& tokens, int32_t target) {
  return mix(hash_of(tokens, 5), static_cast<uint64_t>(target)) % 16 != 0;
}

inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::logic_error(what);
}

class FakeLane {
 public:
  explicit FakeLane(const SchedulerLimits& limits)
      : limits_(limits),
        slots_(static_cast<size_t>(limits.max_sequences)),
        pages_(static_cast<size_t>(limits.kv_pages),
               std::vector<int32_t>(static_cast<size_t>(kPageTokens), -1)),
        page_owner_(static_cast<size_t>(limits.kv_pages), -1) {}

  /// The message goes there and the result comes back as bytes, as on the wire.
  StepResult run(const StepMessage& sent) {
    const StepMessage message = step_message_from_bytes(to_bytes(sent));
    require(message.num_rows() <= limits_.max_batch_tokens, "too many rows");
    StepResult result{.step = message.step, .segments = {}};
    std::set<int32_t> seen;
    for (const StepSegment& segment : message.segments) {
      require(seen.insert(segment.slot).second, "slot twice in one step");
      require(segment.token_ids.size() <= static_cast<size_t>(limits_.prefill_chunk), "chunk too long");
      if (segment.fork_of) ++num_forks_;
      if (auto answer = run(segment)) result.segments.push_back(std::move(*answer));
    }
    return step_result_from_bytes(to_bytes(result));
  }

  int64_t num_forks() const { return num_forks_; }

 private:
  struct Slot {
    bool is_valid = false;
    int64_t length = 0;
    std::vector<int32_t> page_table;
    std::vector<int32_t> tokens;  ///< without pages
    std::optional<SamplingKey> key;
  };

  void take_pages(const StepSegment& segment, Slot& slot) {
    for (const int32_t page : segment.new_pages) {
      const int32_t owner = page_owner_.at(static_cast<size_t>(page));
      require(owner != segment.slot || slot.page_table.empty(), "page given twice");
      // Its owner before must have ended: it may come again only at position 0.
      if (owner >= 0 && owner != segment.slot) slots_[static_cast<size_t>(owner)].is_valid = false;
      page_owner_[static_cast<size_t>(page)] = segment.slot;
    }
    slot.page_table.insert(slot.page_table.end(), segment.new_pages.begin(), segment.new_pages.end());
    require(std::set(slot.page_table.begin(), slot.page_table.end()).size() == slot.page_table.size(),
            "page twice");
  }

  void begin(const StepSegment& segment, Slot& slot) {
    for (int32_t& owner : page_owner_) owner = owner == segment.slot ? -1 : owner;
    slot = {.is_valid = true, .key = segment.start};
  }

  void fork(const StepSegment& segment, Slot& slot) {
    const Slot source = slots_.at(static_cast<size_t>(*segment.fork_of));
    require(source.is_valid && source.length == segment.position, "a copy of another state");
    begin(segment, slot);
    take_pages(segment, slot);
    for (const int32_t token : prefix(source)) append(slot, token);
  }

  void prepare(const StepSegment& segment, Slot& slot) {
    if (segment.fork_of) {
      fork(segment, slot);
      return check(segment, slot);
    }
    if (segment.position == 0) begin(segment, slot);
    require(slot.is_valid, "a sequence goes on whose pages were given away");
    require(segment.position == slot.length, "positions have a gap");
    take_pages(segment, slot);
    check(segment, slot);
  }

  void check(const StepSegment& segment, const Slot& slot) const {
    const int64_t length = segment.position + static_cast<int64_t>(segment.token_ids.size());
    require(length <= limits_.max_context, "longer than the context");
    const int64_t num_pages = limits_.needs_pages ? (length + kPageTokens - 1) / kPageTokens : 0;
    require(static_cast<int64_t>(slot.page_table.size()) == num_pages, "wrong number of pages");
  }

  void append(Slot& slot, int32_t token) {
    if (limits_.needs_pages) {
      const int32_t page = slot.page_table[static_cast<size_t>(slot.length / kPageTokens)];
      pages_[static_cast<size_t>(page)][static_cast<size_t>(slot.length % kPageTokens)] = token;
    } else {
      slot.tokens.push_back(token);
    }
    ++slot.length;
  }

  std::vector<int32_t> prefix(const Slot& slot) const {
    if (!limits_.needs_pages) return slot.tokens;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < slot.length; ++i) {
      const int32_t page = slot.page_table[static_cast<size_t>(i / kPageTokens)];
      tokens.push_back(pages_[static_cast<size_t>(page)][static_cast<size_t>(i % kPageTokens)]);
    }
    return tokens;
  }

  std::optional<SegmentResult> run(const StepSegment& segment) {
    Slot& slot = slots_.at(static_cast<size_t>(segment.slot));
    prepare(segment, slot);
    SegmentResult result{.slot = segment.slot, .sampled = {}, .target_logprobs = {}, .target_is_argmax = {}};
    for (size_t i = 0; i < segment.token_ids.size(); ++i) {
      append(slot, segment.token_ids[i]);
      const int32_t target = segment.targets.empty() ? -1 : segment.targets[i];
      if (target < 0) continue;
      const std::vector<int32_t> tokens = prefix(slot);
      result.target_logprobs.push_back(target_logprob(tokens, target));
      result.target_is_argmax.push_back(target_is_argmax(tokens, target));
    }
    if (segment.sample) {
      require(slot.key.has_value(), "samples without a start");
      result.sampled = draw(prefix(slot), slot.key->request_hash, slot.key->sample);
    }
    if (!segment.sample && result.target_logprobs.empty()) return std::nullopt;
    return result;
  }

  SchedulerLimits limits_;
  std::vector<Slot> slots_;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<int32_t> page_owner_;  ///< slot, -1 = nobody
  int64_t num_forks_ = 0;
};

}  // namespace nemo::dist::testing
