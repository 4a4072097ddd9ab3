// What ranks send each other. The first byte is the message's own kind ('M' and 'A' of a step; 'Q', 'R' and
// 'P' of a lane: a request, a record, progress), or 'D', a second byte for the width and a dispatch message.
// What is accepted must be what its value is written as.
#include "dist/moe/dispatch_message.h"
#include "dist/schedule/step_message.h"
#include "lib/request/serialize.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;

template <class Read>
void check(std::string_view bytes, const Read& read) {
  fuzz::accepts([&] { fuzz::require(to_bytes(read(bytes)) == bytes, "a value has one form in bytes"); });
}

void check_dispatch(std::string_view bytes) {
  if (bytes.empty()) return;
  const auto width = static_cast<uint8_t>(bytes.front()) % 16;
  const std::string message(bytes.substr(1));  // aligned, as what MPI receives is
  for (const auto wire : {kernels::DType::kFloat32, kernels::DType::kBFloat16}) {
    fuzz::accepts([&] {
      const dist::DispatchReader reader(message, width, wire);
      int64_t num_pairs = 0;
      for (const int32_t count : reader.pairs()) {
        fuzz::require(count >= 0, "a row's pairs can be counted");
        num_pairs += count;
      }
      fuzz::require(num_pairs == static_cast<int64_t>(reader.expert_ids().size()),
                    "the pairs of all rows are the message's");
      fuzz::require(static_cast<int64_t>(reader.rows().size()) ==
                        reader.num_rows() * width * kernels::dtype_bytes(wire),
                    "what is left is its rows");
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  check(bytes, dist::step_message_from_bytes);
  check(bytes, dist::step_result_from_bytes);
  check(bytes, request_from_bytes);
  check(bytes, record_from_bytes);
  check(bytes, sample_progress_from_bytes);
  if (bytes.starts_with('D')) check_dispatch(bytes.substr(1));
  return 0;
}
