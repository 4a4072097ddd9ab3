// main of every *_mpi_test: googletest under MPI. Rank 0 alone prints the usual lines; another rank prints
// only what failed there, with its number. A failure on any rank fails the program on all, and what is thrown
// out of a test ends all ranks at once, because the others may be waiting for the one that threw.
#include <gtest/gtest.h>

#include <iostream>
#include <sstream>

#include "dist/comm/communicator.h"
#include "dist/comm/mpi_session.h"

namespace {

/// Prints failures, with the rank in front.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

  // Kept here, because googletest holds the lock of current_test_info while it reports a failure.
  void OnTestStart(const testing::TestInfo& test) override {
    test_name_ = std::string(test.test_suite_name()) + '.' + test.name();
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::ostringstream text;  // one write, so that ranks do not mix their lines
    text << "[rank " << rank_ << "] " << test_name_ << ' ';
    text << (result.file_name() != nullptr ? result.file_name() : "") << ':' << result.line_number() << '\n'
         << result.message() << '\n';
    std::cerr << text.str() << std::flush;
  }

 private:
  int rank_;
  std::string test_name_;
};

/// A fatal failure (ASSERT_*) leaves the test on one rank only, and the others would wait for it until their
/// deadline: it ends all ranks. EXPECT_* goes on.
class FatalFailureEnder : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.fatally_failed()) nemo::dist::MpiSession::abort(1);
  }
};

int run_tests(const nemo::dist::MpiSession& session) {
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (session.world_rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(session.world_rank()));
  }
  if (session.world_size() > 1) listeners.Append(new FatalFailureEnder);
  const int64_t mine = RUN_ALL_TESTS();
  auto world = nemo::dist::Communicator::world(std::chrono::minutes(1));
  const int64_t all = world.all_max({&mine, 1}, "the ranks to agree on the test's outcome").front();
  if (session.world_rank() == 0 && mine != all)
    std::cout << "FAILED on another rank, see above\n" << std::flush;
  return static_cast<int>(all);
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::GTEST_FLAG(catch_exceptions) = false;
  nemo::dist::MpiSession session(argc, argv);
  try {
    return run_tests(session);
  } catch (const std::exception& error) {
    std::cerr << "[rank " << session.world_rank() << "] thrown out of a test: " << error.what() << '\n'
              << std::flush;
    nemo::dist::MpiSession::abort(1);
  }
}
