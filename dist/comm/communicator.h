// Communicator: a group of ranks that talk. Move-only owner of one duplicated MPI communicator whose errors
// come back as Error. Every wait has a name and a deadline, and an error names both ranks: nothing here can
// hang for ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace nemo::dist {

/// What a message is. One value per purpose, so that messages of different purposes never mix.
enum class Tag : int {
  kStep = 1,       ///< StepMessage, down a lane
  kHidden,         ///< residual stream, down a lane
  kResult,         ///< StepResult, from the last stage of a lane to its first
  kDispatch,       ///< routed rows, inside a stage
  kCombine,        ///< partial sums, inside a stage
  kToCoordinator,  ///< lane head to rank 0
  kToLane,         ///< rank 0 to lane head
};

/// Names a wait. `deadline` replaces the communicator's own.
struct Wait {
  std::string_view what;
  std::optional<std::chrono::seconds> deadline;
  Wait(const char* what_) : what(what_) {}  // NOLINT: implicit by intent
  Wait(std::string_view what_, std::chrono::seconds deadline_) : what(what_), deadline(deadline_) {}
};

class Communicator {
 public:
  /// All ranks. `deadline` is that of every wait, also of communicators split from this one.
  static Communicator world(std::chrono::seconds deadline);

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  ~Communicator();  ///< frees locally; waits for nobody

  int rank() const;
  int size() const;
  /// Rank in the world of one of our ranks, for messages to people.
  int world_rank(int rank) const;

  /// Collective over this communicator: ranks of equal `color` form a new one, ordered by `key`.
  Communicator split(int color, int key) const;
  /// Ranks that share this host's memory.
  Communicator split_by_host() const;

  /// From now on errors also name this step.
  void set_step(int64_t step);

  /// Sends `bytes` without waiting; they are kept until they are gone. Messages between two ranks with the
  /// same tag arrive in order.
  void post(int destination, Tag tag, std::string bytes);
  /// The same without a copy: the caller leaves `bytes` as they are until flush has returned.
  void post_in_place(int destination, Tag tag, std::string_view bytes);
  /// Waits until everything posted is gone.
  void flush(Wait wait);

  /// Waits for the next message from `source` with `tag`.
  std::string receive(int source, Tag tag, Wait wait);
  /// Takes in what has come with `tag`, for a later receive, and moves on what is posted. Never waits. Called
  /// between pieces of work: nothing else moves a large message while both of its ranks compute.
  void progress(Tag tag);
  /// Receives the next message from `source` with `tag` straight into `into`, which must be there until
  /// await_expected. Its size is that of the message. A tag is either expected or received, never both.
  void expect(int source, Tag tag, std::span<std::byte> into);
  /// Waits for all that is expected. Throws Error for a message of another size.
  void await_expected(Wait wait);

  struct Incoming {
    int source = 0;
    std::string bytes;
  };
  /// The next message with `tag` from anybody, if one is there whole. Never waits.
  std::optional<Incoming> poll(Tag tag);

  /// Element-wise maximum over all ranks.
  std::vector<int64_t> all_max(std::span<const int64_t> values, Wait wait);
  /// Element-wise sum over all ranks.
  std::vector<int64_t> all_sum(std::span<const int64_t> values, Wait wait);
  /// root's bytes, at every rank.
  std::string broadcast(std::string bytes, int root, Wait wait);
  /// Everybody's bytes at every rank, by rank.
  std::vector<std::string> all_gather(const std::string& bytes, Wait wait);

  /// Bytes handed to MPI by post() so far, by tag: what the plan's wire bytes are compared with.
  int64_t bytes_posted(Tag tag) const;

 private:
  struct Impl;
  explicit Communicator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// An error that every rank throws at once, with the same text: one of them may speak for all, and all may
/// leave in order.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Runs `phase` on every rank and lets all agree on how it went: if it threw anywhere, every rank throws the
/// Error of the lowest rank that failed. Waits long: loading weights takes its time.
void agree_on_error(Communicator& world, std::string_view phase_name, const std::function<void()>& phase);

}  // namespace nemo::dist
