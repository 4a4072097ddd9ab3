// Where each finished request lies in the journal, in bounded memory: what makes a resumed run skip what is
// done and lets the results be written in input order without holding them. Filled by the journal's scan and
// by its writer.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lib/request/request.h"

namespace nemo {

/// A place in the journal folder: `offset` bytes into the file of segment number `segment` (from 1).
struct JournalLocation {
  int64_t segment = 0;
  int64_t offset = 0;
  bool operator==(const JournalLocation&) const = default;
};

/// What a record holds, as far as it decides the columns of the results. Kept in the header of every record,
/// so that the columns are known without reading the records first.
struct RecordTraits {
  bool has_logprobs = false;
  bool has_several_outputs = false;
  bool has_metadata = false;
  bool has_error = false;
  int64_t top_k = 0;  ///< the longest list of top_logprobs of a token

  bool operator==(const RecordTraits&) const = default;
};

/// What all runs of a job have computed so far, abandoned work included: so the end can tell how much was
/// computed again after interruptions. Runs that were killed wrote their last one up to a second before.
struct WorkDone {
  int64_t prompt_tokens = 0;  ///< rows of prompts, and of outputs that were rebuilt
  int64_t output_tokens = 0;  ///< drawn or scored
  bool operator==(const WorkDone&) const = default;
};

RecordTraits traits_of(const Record& record);

/// Which requests are done and where their records lie: 8 bytes a request index, in pages of 64 KiB that are
/// made when first needed. Copy is off because an index of a billion requests should not be copied unseen.
class JournalIndex {
 public:
  /// One more than the largest request index that fits.
  static constexpr int64_t kMaxRequests = int64_t{1} << 33;

  JournalIndex() = default;
  JournalIndex(JournalIndex&&) = default;
  JournalIndex& operator=(JournalIndex&&) = default;

  /// False for any index that was not inserted, also for those out of range.
  bool done(int64_t index) const { return slot(index) != 0; }
  std::optional<JournalLocation> find(int64_t index) const;

  /// The first location of an index wins: returns false, and changes nothing, if `index` is done already.
  /// Throws Error if index, segment or offset are out of range. Forgets the progress of `index`.
  bool insert(int64_t index, JournalLocation location, const RecordTraits& traits);

  /// Remembers the latest progress of (index, sample), unless `index` is done. Some 80 bytes for each one
  /// under way.
  void insert_progress(int64_t index, int64_t sample, JournalLocation location);
  std::optional<JournalLocation> find_progress(int64_t index, int64_t sample) const;
  /// (index, sample) of every generation with progress and no finished record, in order.
  std::vector<std::pair<int64_t, int64_t>> in_progress() const;

  /// The latest one.
  void set_work(const WorkDone& work) { work_ = work; }
  const WorkDone& work() const { return work_; }

  int64_t num_done() const { return num_done_; }
  int64_t num_errors() const { return num_errors_; }
  /// The union over all records: true if any has it, the largest top_k.
  const RecordTraits& traits() const { return traits_; }
  /// Memory held by the table of records, in bytes.
  int64_t memory_bytes() const;

 private:
  static constexpr int64_t kPageSlots = 8192;
  using Page = std::array<uint64_t, kPageSlots>;

  uint64_t slot(int64_t index) const;

  std::vector<std::unique_ptr<Page>> pages_;
  std::map<std::pair<int64_t, int64_t>, JournalLocation> progress_;
  int64_t num_done_ = 0;
  int64_t num_errors_ = 0;
  RecordTraits traits_;
  WorkDone work_;
};

}  // namespace nemo
