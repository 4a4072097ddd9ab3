#include "launch/recorder.h"

#include <boost/asio.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "launch/exit_codes.h"

namespace nemo::launch {

namespace asio = boost::asio;

namespace {
/// How long a finished request may wait for the disk: one sync then covers all of that time.
constexpr std::chrono::milliseconds kTick(200);
}  // namespace

struct Recorder::Loop {
  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::signal_set signals{io, SIGINT, SIGTERM, SIGUSR1};
  asio::steady_timer timer{io};
};

Recorder::Recorder(JournalWriter journal, Progress& progress, RecorderOptions options)
    : progress_(progress),
      options_(std::move(options)),
      journal_(std::move(journal)),
      loop_(std::make_unique<Loop>()) {
  handle_signal();
  tick();
  thread_ = std::thread([this] { loop_->io.run(); });
}

Recorder::~Recorder() {
  if (!thread_.joinable()) return;
  loop_->io.stop();
  thread_.join();
}

template <class Work>
void Recorder::guarded(Work&& work) {
  try {
    work();
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void Recorder::submit(Record record) {
  asio::post(loop_->io, [this, record = std::move(record)] {
    guarded([&] {
      const std::lock_guard lock(journal_mutex_);
      journal_->append(record);
    });
  });
}

void Recorder::commit() {
  guarded([&] {
    const std::lock_guard lock(journal_mutex_);
    journal_->commit();
    progress_.set_done(journal_->index().num_done());
  });
}

void Recorder::stop(StopReason reason) {
  if (stop_reason_ == StopReason::kNone) stop_reason_ = reason;
}

void Recorder::tick() {
  loop_->timer.expires_after(kTick);
  loop_->timer.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    commit();
    progress_.show();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    if (options_.max_time_s && elapsed.count() > *options_.max_time_s) stop(StopReason::kTimeLimit);
    std::error_code ignored;
    if (!options_.stop_file.empty() && std::filesystem::exists(options_.stop_file, ignored))
      stop(StopReason::kStopFile);
    tick();
  });
}

void Recorder::handle_signal() {
  loop_->signals.async_wait([this](const boost::system::error_code& error, int) {
    if (error) return;
    // mpirun kills us one second after SIGTERM: what is done must be on disk before anything else.
    commit();
    if (stop_reason_ != StopReason::kNone) std::_Exit(kExitStopped);
    stop(StopReason::kSignal);
    handle_signal();
  });
}

bool Recorder::done(int64_t index) const {
  const std::lock_guard lock(journal_mutex_);
  return journal_->done(index);
}

void Recorder::rethrow_if_failed() {
  const std::lock_guard lock(error_mutex_);
  if (error_) std::rethrow_exception(error_);
}

JournalWriter Recorder::finish() {
  // Posted last, so everything submitted before is in the journal by then. Signals stay ours to the end of the process.
  asio::post(loop_->io, [this] {
    loop_->timer.cancel();
    commit();
    loop_->io.stop();
  });
  thread_.join();
  progress_.close();
  rethrow_if_failed();
  return std::move(*journal_);
}

}  // namespace nemo::launch
