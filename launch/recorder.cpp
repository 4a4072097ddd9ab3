#include "launch/recorder.h"

#include <unistd.h>

#include <boost/asio.hpp>
#include <csignal>
#include <filesystem>

#include "launch/exit_codes.h"
#include "launch/stop_signals.h"

namespace nemo::launch {

namespace asio = boost::asio;

namespace {
/// How long a finished request may wait for the disk: one sync then covers all of that time.
constexpr std::chrono::milliseconds kTick(200);
constexpr std::chrono::seconds kWorkInterval(1);

std::unordered_set<int64_t> begun_requests(const JournalIndex& index) {
  std::unordered_set<int64_t> begun;
  for (const auto& [request, sample] : index.in_progress()) begun.insert(request);
  return begun;
}
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
      begun_(begun_requests(journal_->index())),
      earlier_work_(journal_->index().work()),
      noted_work_(earlier_work_),
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

void Recorder::submit(SampleProgress progress) {
  asio::post(loop_->io, [this, progress = std::move(progress)] {
    guarded([&] {
      const std::lock_guard lock(journal_mutex_);
      journal_->append(progress);
    });
  });
}

std::vector<Output> Recorder::prior_outputs(int64_t index, int64_t num_samples) const {
  if (!begun_.contains(index)) return {};
  std::vector<Output> outputs(static_cast<size_t>(num_samples));
  const std::lock_guard lock(journal_mutex_);
  JournalReader reader = journal_->reader();
  for (int64_t sample = 0; sample < num_samples; ++sample) {
    if (auto progress = reader.read_progress(index, sample))
      outputs[static_cast<size_t>(sample)] = std::move(progress->output);
  }
  return outputs;
}

void Recorder::note_work(Urgency urgency) {
  const auto now = std::chrono::steady_clock::now();
  if (urgency == Urgency::kCanWait && now - last_noted_ < kWorkInterval) return;
  last_noted_ = now;
  const WorkDone work{earlier_work_.prompt_tokens + progress_.prompt_tokens(),
                      earlier_work_.output_tokens + progress_.output_tokens()};
  if (work == noted_work_) return;
  journal_->append(work);
  noted_work_ = work;
}

void Recorder::commit(Urgency urgency) {
  guarded([&] {
    const std::lock_guard lock(journal_mutex_);
    note_work(urgency);
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
    commit(Urgency::kCanWait);
    progress_.show();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - options_.start;
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
    commit(Urgency::kNow);
    if (stop_reason_ != StopReason::kNone) ::_exit(kExitStopped);
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
  // Posted last, so everything submitted before is in the journal by then.
  asio::post(loop_->io, [this] {
    loop_->timer.cancel();
    commit(Urgency::kNow);
    loop_->io.stop();
  });
  thread_.join();
  loop_->signals.clear();
  leave_at_signals();
  progress_.close();
  rethrow_if_failed();
  return std::move(*journal_);
}

}  // namespace nemo::launch
