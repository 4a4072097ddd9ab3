// Communicator: order, sizes, agreement, deadlines. Every test runs at several numbers of ranks, one among
// them.
#include <gtest/gtest.h>

#include <span>

#include "dist/comm/communicator.h"

namespace nemo::dist {
namespace {

using namespace std::chrono_literals;

class CommunicatorTest : public testing::Test {
 protected:
  Communicator world = Communicator::world(60s);
  const int rank = world.rank();
  const int size = world.size();

  /// Returns when everybody is here.
  void meet(const char* what) {
    const int64_t here = 1;
    world.all_max({&here, 1}, what);
  }
  int next() const { return (rank + 1) % size; }
  int previous() const { return (rank + size - 1) % size; }

  /// What `body` throws, as text; empty if nothing.
  template <class Body>
  static std::string error_of(Body&& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }
};

std::string numbered(int i) {
  return "message " + std::to_string(i);
}

/// `size` bytes that differ from sender to sender and from place to place.
std::string pattern(size_t size, int sender) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<char>((i * 131 + i / 4099 + static_cast<size_t>(sender)) & 0xff);
  return bytes;
}

TEST_F(CommunicatorTest, MessagesOfOneTagArriveInOrder) {
  for (int i = 0; i < 200; ++i) world.post(next(), Tag::kHidden, numbered(i));
  for (int i = 0; i < 200; ++i) EXPECT_EQ(world.receive(previous(), Tag::kHidden, "a message"), numbered(i));
  world.flush("messages to be taken");
}

TEST_F(CommunicatorTest, TagsDoNotMix) {
  world.post(next(), Tag::kStep, "step");
  world.post(next(), Tag::kHidden, "hidden");
  world.post(next(), Tag::kDispatch, "");
  EXPECT_EQ(world.receive(previous(), Tag::kDispatch, "rows"), "");
  EXPECT_EQ(world.receive(previous(), Tag::kHidden, "hidden"), "hidden");
  EXPECT_EQ(world.receive(previous(), Tag::kStep, "step"), "step");
  world.flush("messages to be taken");
}

TEST_F(CommunicatorTest, MessagesAreKeptUntilTheyAreGone) {
  // Above every eager limit, so that they cannot be gone before somebody receives them; everybody posts
  // first.
  constexpr size_t kSize = size_t{24} << 20;
  for (int to = 0; to < size; ++to) world.post(to, Tag::kCombine, pattern(kSize, rank));
  for (int from = 0; from < size; ++from)
    EXPECT_TRUE(world.receive(from, Tag::kCombine, "a big message") == pattern(kSize, from))
        << "from " << from;
  world.flush("big messages to be taken");
  EXPECT_EQ(world.bytes_posted(Tag::kCombine), static_cast<int64_t>(kSize) * size);
  EXPECT_EQ(world.bytes_posted(Tag::kDispatch), 0);
}

TEST_F(CommunicatorTest, ExpectedMessagesComeStraightFromMemoryToMemory) {
  for (const size_t bytes :
       {size_t{5}, size_t{100'000}, size_t{3} << 20}) {  // below and above the eager limits
    std::vector<std::string> received(static_cast<size_t>(size), std::string(bytes, '\0'));
    for (int from = 0; from < size; ++from)
      world.expect(from, Tag::kCombine,
                   std::as_writable_bytes(std::span(received[static_cast<size_t>(from)])));
    const std::string mine = pattern(bytes, rank);
    for (int to = 0; to < size; ++to) world.post_in_place(to, Tag::kCombine, mine);
    world.await_expected("sums");
    world.flush("sums to be taken");
    for (int from = 0; from < size; ++from)
      EXPECT_TRUE(received[static_cast<size_t>(from)] == pattern(bytes, from)) << bytes << " from " << from;
  }
}

TEST_F(CommunicatorTest, AnExpectedMessageOfAnotherSizeIsRefused) {
  if (size < 2) GTEST_SKIP() << "Open MPI cuts what a rank sends itself without a word";
  for (const size_t bytes : {7, 9}) {
    std::string received(8, '\0');
    world.expect(previous(), Tag::kCombine, std::as_writable_bytes(std::span(received)));
    world.post(next(), Tag::kCombine, std::string(bytes, 'x'));
    const std::string text = error_of([&] { world.await_expected("sums"); });
    EXPECT_NE(text.find("rank " + std::to_string(previous())), std::string::npos) << text;
    world.flush("sums to be taken");
  }
}

TEST_F(CommunicatorTest, AnExpectedMessageHasADeadlineToo) {
  std::string received(8, '\0');
  world.expect(previous(), Tag::kCombine, std::as_writable_bytes(std::span(received)));
  const std::string text = error_of([&] { world.await_expected(Wait("expert sums", 1s)); });
  EXPECT_NE(text.find("waited 1 s for expert sums from rank " + std::to_string(previous())),
            std::string::npos)
      << text;
  meet("everybody's deadline");                            // or a message would come to who still waits
  world.post(next(), Tag::kCombine, std::string(8, 'x'));  // or it would write into what is gone
  world.await_expected("expert sums");
  world.flush("sums to be taken");
}

TEST_F(CommunicatorTest, ProgressTakesInWhatIsReceivedLater) {
  constexpr size_t kSize = size_t{2} << 20;
  world.post(next(), Tag::kHidden, pattern(kSize, rank));
  world.post(next(), Tag::kHidden, "second");
  for (int i = 0; i < 1000; ++i) world.progress(Tag::kHidden);
  EXPECT_TRUE(world.receive(previous(), Tag::kHidden, "hidden") == pattern(kSize, previous()));
  EXPECT_EQ(world.receive(previous(), Tag::kHidden, "hidden"), "second");
  world.flush("messages to be taken");
}

TEST_F(CommunicatorTest, PollTakesWhatIsThereAndNeverWaits) {
  EXPECT_FALSE(world.poll(Tag::kToCoordinator).has_value());
  meet("everybody to have seen nothing");
  if (rank != 0) world.post(0, Tag::kToCoordinator, numbered(rank));
  if (rank == 0) {
    std::vector<int> seen(static_cast<size_t>(size), 0);
    for (int left = size - 1; left > 0;) {
      const auto incoming = world.poll(Tag::kToCoordinator);
      if (!incoming) continue;
      EXPECT_EQ(incoming->bytes, numbered(incoming->source));
      ++seen[static_cast<size_t>(incoming->source)];
      --left;
    }
    for (int source = 1; source < size; ++source) EXPECT_EQ(seen[static_cast<size_t>(source)], 1);
  }
  world.flush("messages to be taken");
}

TEST_F(CommunicatorTest, ReductionsAreElementWise) {
  const std::vector<int64_t> mine = {rank, -rank, rank == size / 2 ? int64_t{1} << 40 : 0};
  EXPECT_EQ(world.all_max(mine, "the maximum"), (std::vector<int64_t>{size - 1, 0, int64_t{1} << 40}));
  const std::vector<int64_t> more = {rank + 1, 0, -1};
  EXPECT_EQ(world.all_sum(more, "the sum"), (std::vector<int64_t>{size * (size + 1) / 2, 0, -size}));
}

TEST_F(CommunicatorTest, BroadcastAndGatherTakeAnyBytes) {
  for (int root = 0; root < size; ++root) {
    EXPECT_EQ(world.broadcast(rank == root ? "" : "mine", root, "nothing"), "");
    const std::string bytes = pattern(100'000, root) + std::string("\0\n\0", 3);
    EXPECT_TRUE(world.broadcast(rank == root ? bytes : "", root, "bytes") == bytes);
  }
  const auto all = world.all_gather(std::string(static_cast<size_t>(rank), 'x'), "all bytes");
  ASSERT_EQ(all.size(), static_cast<size_t>(size));
  for (int i = 0; i < size; ++i)
    EXPECT_EQ(all[static_cast<size_t>(i)], std::string(static_cast<size_t>(i), 'x'));
}

TEST_F(CommunicatorTest, SplitsKnowTheirRanksInTheWorld) {
  Communicator part = world.split(rank % 2, -rank);  // even and odd ranks, the highest first
  std::vector<int> expected;
  for (int i = size - 1; i >= 0; --i)
    if (i % 2 == rank % 2) expected.push_back(i);
  ASSERT_EQ(part.size(), static_cast<int>(expected.size()));
  for (int i = 0; i < part.size(); ++i) EXPECT_EQ(part.world_rank(i), expected[static_cast<size_t>(i)]);
  EXPECT_EQ(part.world_rank(part.rank()), rank);
  EXPECT_EQ(world.split_by_host().size(), size);

  // The same ranks and tag in two communicators are two channels.
  if (part.size() > 1 && part.rank() == 0) part.post(1, Tag::kHidden, "part");
  if (part.size() > 1 && part.rank() == 1) {
    EXPECT_FALSE(world.poll(Tag::kHidden).has_value());
    EXPECT_EQ(part.receive(0, Tag::kHidden, "a message"), "part");
  }
  part.flush("messages to be taken");
}

TEST_F(CommunicatorTest, NothingThrownIsAgreedToo) {
  int calls = 0;
  agree_on_error(world, "a phase", [&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST_F(CommunicatorTest, TheLowestRanksErrorIsEverybodys) {
  const int lowest = std::min(1, size - 1);
  const std::string text = error_of([&] {
    agree_on_error(world, "a phase", [&] {
      if (rank >= lowest) throw Error("rank " + std::to_string(rank) + " failed");
    });
  });
  EXPECT_EQ(text, "rank " + std::to_string(lowest) + " failed");
}

TEST_F(CommunicatorTest, OneFailingRankFailsAll) {
  for (int failing = 0; failing < size; ++failing) {
    const std::string text = error_of([&] {
      agree_on_error(world, "a phase", [&] {
        if (rank == failing) throw Error("layer 3", "is missing", "copy the whole folder");
      });
    });
    EXPECT_NE(text.find("layer 3"), std::string::npos) << text;
    EXPECT_NE(text.find("copy the whole folder"), std::string::npos) << text;
  }
}

TEST_F(CommunicatorTest, TheKindOfAnErrorIsAgreedToo) {
  for (const ErrorKind kind : {ErrorKind::kBadJob, ErrorKind::kFailure}) {
    try {
      agree_on_error(world, "a phase", [&] {
        if (rank == size - 1) throw Error("job.yaml", "is wrong", "mend it", kind);
      });
      ADD_FAILURE() << "nothing thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
    }
  }
}

TEST_F(CommunicatorTest, OtherExceptionsGetTheNameOfThePhase) {
  const std::string text = error_of([&] {
    agree_on_error(world, "loading weights", [&] {
      if (rank == 0) throw std::out_of_range("map::at");
    });
  });
  EXPECT_NE(text.find("loading weights"), std::string::npos) << text;
  EXPECT_NE(text.find("map::at"), std::string::npos) << text;
  const std::string memory = error_of([&] {
    agree_on_error(world, "loading weights", [&] {
      if (rank == size - 1) throw std::bad_alloc();
    });
  });
  EXPECT_NE(memory.find("out of memory"), std::string::npos) << memory;
}

TEST_F(CommunicatorTest, AWaitEndsAtItsDeadlineAndNamesBothRanksAndTheStep) {
  world.set_step(812);
  const auto start = std::chrono::steady_clock::now();
  const std::string text =
      error_of([&] { world.receive(previous(), Tag::kHidden, Wait("hidden states", 1s)); });
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited, 1s);
  EXPECT_LT(waited, 20s);  // the machine may be busy
  EXPECT_NE(text.find("rank " + std::to_string(rank) + " waited 1 s for hidden states from rank " +
                      std::to_string(previous())),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("step 812"), std::string::npos) << text;
}

TEST_F(CommunicatorTest, DeadlinesOfSplitsNameRanksOfTheWorld) {
  if (size < 3) GTEST_SKIP() << "needs 3 ranks";
  Communicator part = world.split(rank == 0 ? 0 : 1, rank);  // rank 1 of the world is its rank 0
  if (rank == 2) {
    const std::string text = error_of([&] { part.receive(0, Tag::kDispatch, Wait("routed rows", 1s)); });
    EXPECT_NE(text.find("rank 2 waited 1 s for routed rows from rank 1"), std::string::npos) << text;
    EXPECT_EQ(text.find("step"), std::string::npos) << "no step has been set: " << text;
  }
  meet("rank 2");
}

TEST_F(CommunicatorTest, FlushHasADeadlineToo) {
  if (size < 2) GTEST_SKIP() << "needs 2 ranks";
  constexpr size_t kSize = size_t{8} << 20;  // above every eager limit: gone only when received
  if (rank == 0) {
    world.post(1, Tag::kCombine, pattern(kSize, 0));
    const std::string text = error_of([&] { world.flush(Wait("sums to be taken", 1s)); });
    EXPECT_NE(text.find("sums to be taken"), std::string::npos) << text;
    EXPECT_NE(text.find("rank 1"), std::string::npos) << text;
  }
  meet("rank 0 to lose patience");
  if (rank == 1) {
    EXPECT_EQ(world.receive(0, Tag::kCombine, "sums").size(), kSize);
  }
  world.flush("sums to be taken");
}

}  // namespace
}  // namespace nemo::dist
