// PromptSource: the job's input files as a stream of requests, one for each non-empty line, in order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lib/request/request.h"
#include "lib/text/chat_template.h"
#include "lib/text/tokenizer.h"

namespace nemo {

/// A line is ready for a lane, or it is finished already because of its error.
using Prompt = std::variant<Request, Record>;

/// Files of `paths` in this order; a path that names no file but has one of `*?[` is a pattern, whose files
/// come sorted by their bytes. Throws Error(kBadJob) for a missing file, a pattern without files, a folder,
/// and `-` (a job that starts again must be able to read its input again).
std::vector<std::string> expand_input_paths(const std::vector<std::string>& paths);

struct PromptSourceOptions {
  std::vector<std::string> paths;  ///< see expand_input_paths
  Task task = Task::kGenerate;
  SamplingParams sampling;        ///< the job's; keys of a line override them
  int64_t max_context = 0;        ///< tokens of prompt and output together that a sequence may have
  std::optional<int32_t> bos_id;  ///< the context of a scored text that has none
};

/// Reads with bounded memory: a line may have 64 MiB. Not for use from several threads at once.
class PromptSource {
 public:
  /// Borrows `tokenizer` and `chat_template` (nullptr: the checkpoint has none, and chats become errors);
  /// both outlive it. Throws Error(kBadJob) if an input cannot be opened.
  PromptSource(PromptSourceOptions options, const Tokenizer& tokenizer, ChatTemplate* chat_template);
  PromptSource(PromptSource&&) noexcept;
  PromptSource& operator=(PromptSource&&) noexcept;
  ~PromptSource();

  /// The next line whose index `needed` accepts, or nothing at the end; the others are passed over without
  /// tokenizing. Trouble with a line is a Record with an error. Throws Error if a file cannot be read on
  /// (damaged gzip data, I/O).
  std::optional<Prompt> next(const std::function<bool(int64_t index)>& needed);
  /// The next line.
  std::optional<Prompt> next();

  /// Non-empty lines passed so far; the number of requests once the end is reached.
  int64_t num_lines() const;
  /// The files, patterns expanded, in order.
  const std::vector<std::string>& files() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nemo
