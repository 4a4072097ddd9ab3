#include "dist/comm/communicator.h"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <climits>
#include <deque>
#include <list>
#include <thread>

#include "dist/comm/mpi_check.h"

namespace nemo::dist {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kNumTags = static_cast<size_t>(Tag::kToLane) + 1;

int to_count(size_t bytes) {
  NEMO_CHECK(bytes <= INT_MAX,
             "message of " + std::to_string(bytes) + " bytes; lower engine.max_batch_tokens");
  return static_cast<int>(bytes);
}

/// How a waiting rank passes the time: first it only looks again, then it lets others run, then it sleeps,
/// because with more ranks than cores a spinning rank holds up the one it waits for.
class Patience {
 public:
  /// Returns the time waited so far.
  Clock::duration pause() {
    ++rounds_;
    const Clock::duration waited = Clock::now() - start_;
    if (rounds_ < 20) return waited;
    if (waited < std::chrono::milliseconds(2)) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(waited < std::chrono::seconds(1) ? std::chrono::microseconds(50)
                                                                   : std::chrono::microseconds(500));
    }
    return waited;
  }

 private:
  int64_t rounds_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

struct Communicator::Impl {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, size = 1;
  std::chrono::seconds deadline{0};
  std::vector<int> world_ranks;
  int64_t step = -1;

  struct Posted {
    MPI_Request request = MPI_REQUEST_NULL;
    int destination = 0;
    std::string bytes;  ///< empty if they are the caller's
  };
  std::deque<Posted> posted;
  /// A message that has been matched; its bytes may still be on their way.
  struct Arriving {
    MPI_Request request = MPI_REQUEST_NULL;
    Tag tag{};
    Incoming incoming;
  };
  std::list<Arriving> arriving;  ///< in the order of matching; a list, because MPI writes into its strings
  struct Expected {
    MPI_Request request = MPI_REQUEST_NULL;
    int source = 0;
    size_t size = 0;
    int received = -1;  ///< bytes, once it is there
  };
  std::deque<Expected> expected;
  std::array<int64_t, kNumTags> bytes_posted{};

  Impl(MPI_Comm owned, std::chrono::seconds deadline_) : comm(owned), deadline(deadline_) {
    mpi_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    MPI_Group mine, world;
    MPI_Comm_group(comm, &mine);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    std::vector<int> ranks(static_cast<size_t>(size));
    for (int i = 0; i < size; ++i) ranks[static_cast<size_t>(i)] = i;
    world_ranks.resize(ranks.size());
    MPI_Group_translate_ranks(mine, size, ranks.data(), world, world_ranks.data());
    MPI_Group_free(&mine);
    MPI_Group_free(&world);
  }

  /// Forgets posted messages that are gone.
  void reap() {
    while (!posted.empty()) {
      int done = 0;
      mpi_check(MPI_Test(&posted.front().request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (!done) return;
      posted.pop_front();
    }
  }

  /// Polls `done` until it is true; past the deadline throws, naming `peer` (our rank numbering; -1 = all).
  template <class Done>
  void wait_until(const Wait& wait, int peer, Done&& done) {
    const std::chrono::seconds limit = wait.deadline.value_or(deadline);
    Patience patience;
    while (!done()) {
      reap();
      if (patience.pause() > limit) throw_deadline(wait, peer, limit);
    }
  }

  [[noreturn]] void throw_deadline(const Wait& wait, int peer, std::chrono::seconds limit) const {
    std::string text = "rank " + std::to_string(world_ranks[static_cast<size_t>(rank)]) + " waited " +
                       std::to_string(limit.count()) + " s for " + std::string(wait.what);
    if (peer >= 0) {
      text += " from rank " + std::to_string(world_ranks[static_cast<size_t>(peer)]);
    } else {
      text += " of all ranks";
    }
    if (step >= 0) text += ", step " + std::to_string(step);
    throw Error("", text, "that rank is stalled, dead or cut off; start the job again to resume");
  }

  void wait_request(MPI_Request request, const Wait& wait, int peer = -1) {
    wait_until(wait, peer, [&] {
      int done = 0;
      mpi_check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), wait.what);
      return done != 0;
    });
  }

  std::vector<int64_t> all_reduce(std::span<const int64_t> values, MPI_Op operation, const Wait& wait) {
    std::vector<int64_t> result(values.size());
    MPI_Request request;
    mpi_check(MPI_Iallreduce(values.data(), result.data(), to_count(values.size()), MPI_INT64_T, operation,
                             comm, &request),
              wait.what);
    wait_request(request, wait);
    return result;
  }

  void send(Posted& message, Tag tag, std::string_view bytes) {
    bytes_posted[static_cast<size_t>(tag)] += static_cast<int64_t>(bytes.size());
    mpi_check(MPI_Isend(bytes.data(), to_count(bytes.size()), MPI_BYTE, message.destination,
                        static_cast<int>(tag), comm, &message.request),
              "MPI_Isend");
  }

  /// Matches every message with `tag` that has come, so that its bytes can move.
  void take_in(Tag tag) {
    while (true) {
      int there = 0;
      MPI_Message message;
      MPI_Status status;
      mpi_check(MPI_Improbe(MPI_ANY_SOURCE, static_cast<int>(tag), comm, &there, &message, &status),
                "MPI_Improbe");
      if (!there) return;
      int count = 0;
      MPI_Get_count(&status, MPI_BYTE, &count);
      Arriving& taken = arriving.emplace_back();
      taken.tag = tag;
      taken.incoming = {status.MPI_SOURCE, std::string(static_cast<size_t>(count), '\0')};
      mpi_check(MPI_Imrecv(taken.incoming.bytes.data(), count, MPI_BYTE, &message, &taken.request),
                "MPI_Imrecv");
    }
  }

  /// The oldest message with `tag` from `source` (or from any, of those whose oldest is whole), if it is
  /// whole.
  std::optional<Incoming> take_whole(int source, Tag tag) {
    std::vector<int> unfinished;  // a source's later messages wait for its earlier ones
    for (auto it = arriving.begin(); it != arriving.end(); ++it) {
      const int from = it->incoming.source;
      if (it->tag != tag || (source != MPI_ANY_SOURCE && from != source)) continue;
      if (std::ranges::find(unfinished, from) != unfinished.end()) continue;
      int done = 0;
      mpi_check(MPI_Test(&it->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done) {
        Incoming incoming = std::move(it->incoming);
        arriving.erase(it);
        return incoming;
      }
      unfinished.push_back(from);
    }
    return std::nullopt;
  }

  /// Whether an expected message is there; then it knows its size.
  static bool has_come(Expected& message) {
    int done = 0, error_class = MPI_SUCCESS;
    MPI_Status status;
    const int code = MPI_Test(&message.request, &done, &status);
    MPI_Error_class(code, &error_class);
    if (error_class == MPI_ERR_TRUNCATE) return true;  // longer than its place
    mpi_check(code, "MPI_Test");
    if (done) MPI_Get_count(&status, MPI_BYTE, &message.received);
    return done != 0;
  }

  void check_size(const Expected& message) const {
    if (message.received == static_cast<int64_t>(message.size)) return;
    throw Error("message of rank " + std::to_string(world_ranks[static_cast<size_t>(message.source)]),
                std::to_string(message.size) + " bytes were due, and another number came",
                "all ranks must run the same build of nemo-dist");
  }
};

Communicator::Communicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;

Communicator::~Communicator() {
  // MPI_Comm_free is collective in principle; a communicator is left to MPI_Finalize instead, so that
  // unwinding after an error on one rank cannot wait for the others.
}

Communicator Communicator::world(std::chrono::seconds deadline) {
  MPI_Comm comm;
  mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return Communicator(std::make_unique<Impl>(comm, deadline));
}

int Communicator::rank() const {
  return impl_->rank;
}
int Communicator::size() const {
  return impl_->size;
}
int Communicator::world_rank(int rank) const {
  return impl_->world_ranks.at(static_cast<size_t>(rank));
}

Communicator Communicator::split(int color, int key) const {
  MPI_Comm comm;
  mpi_check(MPI_Comm_split(impl_->comm, color, key, &comm), "MPI_Comm_split");
  return Communicator(std::make_unique<Impl>(comm, impl_->deadline));
}

Communicator Communicator::split_by_host() const {
  MPI_Comm comm;
  mpi_check(MPI_Comm_split_type(impl_->comm, MPI_COMM_TYPE_SHARED, impl_->rank, MPI_INFO_NULL, &comm),
            "MPI_Comm_split_type");
  return Communicator(std::make_unique<Impl>(comm, impl_->deadline));
}

void Communicator::set_step(int64_t step) {
  impl_->step = step;
}

void Communicator::post(int destination, Tag tag, std::string bytes) {
  impl_->reap();
  Impl::Posted& message = impl_->posted.emplace_back();
  message.destination = destination;
  message.bytes = std::move(bytes);
  impl_->send(message, tag, message.bytes);
}

void Communicator::post_in_place(int destination, Tag tag, std::string_view bytes) {
  impl_->reap();
  Impl::Posted& message = impl_->posted.emplace_back();
  message.destination = destination;
  impl_->send(message, tag, bytes);
}

void Communicator::flush(Wait wait) {
  if (impl_->posted.empty()) return;
  impl_->wait_until(wait, impl_->posted.front().destination, [&] {
    impl_->reap();
    return impl_->posted.empty();
  });
}

std::string Communicator::receive(int source, Tag tag, Wait wait) {
  std::optional<Incoming> incoming;
  impl_->wait_until(wait, source, [&] {
    impl_->take_in(tag);
    incoming = impl_->take_whole(source, tag);
    return incoming.has_value();
  });
  return std::move(incoming->bytes);
}

void Communicator::progress(Tag tag) {
  impl_->reap();
  impl_->take_in(tag);
}

std::optional<Communicator::Incoming> Communicator::poll(Tag tag) {
  progress(tag);
  return impl_->take_whole(MPI_ANY_SOURCE, tag);
}

void Communicator::expect(int source, Tag tag, std::span<std::byte> into) {
  Impl::Expected& message = impl_->expected.emplace_back();
  message.source = source;
  message.size = into.size();
  mpi_check(MPI_Irecv(into.data(), to_count(into.size()), MPI_BYTE, source, static_cast<int>(tag),
                      impl_->comm, &message.request),
            "MPI_Irecv");
}

void Communicator::await_expected(Wait wait) {
  std::deque<Impl::Expected>& expected = impl_->expected;
  while (!expected.empty()) {
    impl_->wait_until(wait, expected.front().source, [&] { return Impl::has_come(expected.front()); });
    const Impl::Expected message = expected.front();
    expected.pop_front();
    impl_->check_size(message);
  }
}

std::vector<int64_t> Communicator::all_max(std::span<const int64_t> values, Wait wait) {
  return impl_->all_reduce(values, MPI_MAX, wait);
}

std::vector<int64_t> Communicator::all_sum(std::span<const int64_t> values, Wait wait) {
  return impl_->all_reduce(values, MPI_SUM, wait);
}

std::string Communicator::broadcast(std::string bytes, int root, Wait wait) {
  auto size = static_cast<int64_t>(bytes.size());
  MPI_Request request;
  mpi_check(MPI_Ibcast(&size, 1, MPI_INT64_T, root, impl_->comm, &request), wait.what);
  impl_->wait_request(request, wait, root);
  bytes.resize(static_cast<size_t>(size));
  mpi_check(MPI_Ibcast(bytes.data(), to_count(bytes.size()), MPI_BYTE, root, impl_->comm, &request),
            wait.what);
  impl_->wait_request(request, wait, root);
  return bytes;
}

std::vector<std::string> Communicator::all_gather(const std::string& bytes, Wait wait) {
  // Rare and small (plans, host names), so the simplest form serves: one broadcast a rank.
  std::vector<std::string> all;
  for (int root = 0; root < impl_->size; ++root)
    all.push_back(broadcast(root == impl_->rank ? bytes : std::string(), root, wait));
  return all;
}

int64_t Communicator::bytes_posted(Tag tag) const {
  return impl_->bytes_posted[static_cast<size_t>(tag)];
}

void agree_on_error(Communicator& world, std::string_view phase_name, const std::function<void()>& phase) {
  // Reading hundreds of gigabytes from a shared file system may keep some ranks for long; a dead rank is
  // noticed by MPI.
  constexpr std::chrono::seconds kLongest = std::chrono::hours(2);
  std::optional<Error> mine;
  try {
    phase();
  } catch (const Error& error) {
    mine = error;
  } catch (const std::bad_alloc&) {
    mine = Error(phase_name, "out of memory", "use more ranks, or set limits.memory");
  } catch (const std::exception& error) {
    mine = Error(phase_name, error.what(), "");
  }
  // Lowest failing rank first: maximize (size - rank).
  const int64_t claim = mine ? world.size() - world.rank() : 0;
  const Wait wait(phase_name, kLongest);
  const int64_t winner = world.all_max({&claim, 1}, wait).front();
  if (winner == 0) return;
  const int root = world.size() - static_cast<int>(winner);
  const bool is_root = root == world.rank();
  const std::string kind =
      world.broadcast(is_root && mine->kind() == ErrorKind::kBadJob ? "job" : "", root, wait);
  const std::string text = world.broadcast(is_root ? mine->what() : "", root, wait);
  throw AgreedError(text, kind == "job" ? ErrorKind::kBadJob : ErrorKind::kFailure);
}

}  // namespace nemo::dist
