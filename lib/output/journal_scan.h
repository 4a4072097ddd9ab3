// Reads a journal folder from end to end: what it belongs to, what is done, and where its good part stops.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/output/journal.h"

namespace nemo {

struct JournalScan {
  Identity identity;  ///< of the first segment; empty if there is none or its header is torn
  JournalIndex index;
  int64_t last_segment = 0;   ///< 0: no journal
  int64_t last_bytes = 0;     ///< the good part of the last segment; 0: not even its header is whole
  int64_t dropped_bytes = 0;  ///< behind the good part, in the last segment
};

/// Changes nothing. Throws Error for damage: a missing segment, a bad record that is followed by later work,
/// segments of different journals, another version. Speed is that of reading the files once; memory is the
/// index and a window of 4 MiB or one record.
JournalScan scan_journal(const std::string& folder);

/// The numbers of the segments in `folder`, rising; empty if the folder is not there.
std::vector<int64_t> list_segments(const std::string& folder);

}  // namespace nemo
