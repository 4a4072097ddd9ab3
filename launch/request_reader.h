// RequestReader: reads, templates and tokenizes the input on a thread of its own, a bounded number of
// requests ahead of what the lanes ask for.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "lib/text/prompt_source.h"

namespace nemo::launch {

class RequestReader {
 public:
  /// `needed` is called on the reader's thread.
  RequestReader(PromptSource source, std::function<bool(int64_t index)> needed);
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  /// The next prompt if one is ready; never waits. Rethrows what went wrong with reading.
  std::optional<Prompt> try_next();
  /// The input has ended and try_next will give nothing any more.
  bool is_finished() const;

 private:
  void read_all();

  PromptSource source_;
  std::function<bool(int64_t)> needed_;
  mutable std::mutex mutex_;
  std::condition_variable space_;
  std::deque<Prompt> ready_;
  bool ended_ = false;
  bool abandoned_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace nemo::launch
