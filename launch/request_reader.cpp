#include "launch/request_reader.h"

namespace nemo::launch {

namespace {
/// Enough to hide the time of templates and tokenizing, little enough for any memory.
constexpr size_t kReadAhead = 512;
}  // namespace

RequestReader::RequestReader(PromptSource source, std::function<bool(int64_t)> needed)
    : source_(std::move(source)), needed_(std::move(needed)), thread_([this] { read_all(); }) {}

RequestReader::~RequestReader() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  space_.notify_all();
  thread_.join();
}

void RequestReader::read_all() {
  try {
    while (auto prompt = source_.next(needed_)) {
      std::unique_lock lock(mutex_);
      space_.wait(lock, [&] { return abandoned_ || ready_.size() < kReadAhead; });
      if (abandoned_) return;
      ready_.push_back(std::move(*prompt));
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
}

std::optional<Prompt> RequestReader::try_next() {
  std::optional<Prompt> prompt;
  {
    const std::lock_guard lock(mutex_);
    if (!ready_.empty()) {
      prompt = std::move(ready_.front());
      ready_.pop_front();
    } else if (error_) {
      std::rethrow_exception(error_);
    }
  }
  if (prompt) space_.notify_one();
  return prompt;
}

bool RequestReader::is_finished() const {
  const std::lock_guard lock(mutex_);
  return ended_ && ready_.empty() && !error_;
}

}  // namespace nemo::launch
