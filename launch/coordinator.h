// Coordinator: hands prompts to the lanes as they ask for them and takes the finished records. Lives on rank
// 0's main thread, between the steps of rank 0's own lane.
#pragma once

#include <chrono>
#include <vector>

#include "dist/comm/communicator.h"
#include "dist/schedule/lane_message.h"
#include "launch/progress.h"
#include "launch/recorder.h"
#include "launch/request_reader.h"

namespace nemo::launch {

class Coordinator {
 public:
  /// `lane_heads`: world ranks of the first stage of every lane of every replica. A lane that says nothing
  /// for `longest_silence` has failed. References must outlive it.
  Coordinator(dist::Communicator& world, std::vector<int> lane_heads, std::chrono::seconds longest_silence,
              RequestReader& reader, Recorder& recorder, Progress& progress);

  /// One round: takes what came in, hands out what was asked for. Never waits. Throws if a lane has been
  /// silent for too long, or the reader's or recorder's error.
  void pump();

  /// Every lane has said that it is done.
  bool all_finished() const;

  /// Requests that no lane of this layout has the memory for; they are not done.
  struct Misfits {
    int64_t count = 0;
    std::string first;  ///< what is the matter with the first of them
  };
  const Misfits& misfits() const { return misfits_; }

  /// Pumps until then.
  void wait_for_lanes();

 private:
  struct Lane {
    int head = 0;        ///< world rank
    int64_t credit = 0;  ///< requests asked for and not yet sent
    bool has_asked = false;
    bool finished = false;
    dist::LaneCounters counters;
    std::chrono::steady_clock::time_point last_heard = std::chrono::steady_clock::now();
  };
  void take_message(const dist::Communicator::Incoming& incoming);
  void take_record(Record record);
  void hand_out();
  void send(Request request, Lane& lane);
  Lane* next_lane_with_credit();
  Lane& lane_for(const Request& request, Lane& next);
  void tell_all(dist::ToLane message);
  void check_silence() const;
  void report_tokens();

  dist::Communicator& world_;
  std::vector<Lane> lanes_;
  const std::chrono::seconds longest_silence_;
  RequestReader& reader_;
  Recorder& recorder_;
  Progress& progress_;
  Misfits misfits_;
  size_t next_lane_ = 0;
  std::vector<int32_t> last_context_;  ///< of the request sent last, if it was one to score
  Lane* last_lane_ = nullptr;          ///< to which it was sent
  bool told_exhausted_ = false;
  bool told_stop_ = false;
};

}  // namespace nemo::launch
