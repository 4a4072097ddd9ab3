#include "lib/text/prompt_source.h"

#include <algorithm>
#include <unordered_set>

#include "kernels/error.h"
#include "lib/text/input_line.h"
#include "lib/text/line_reader.h"
#include "lib/text/request_maker.h"
#include "lib/text/text_error.h"

namespace nemo {
namespace {

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

std::string place_of(const FileLineReader::Line& line) {
  const size_t slash = line.file.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? line.file : line.file.substr(slash + 1);
  return std::string(name) + ":" + std::to_string(line.number) + ": ";
}

}  // namespace

struct PromptSource::Parts {
  PromptSourceOptions options;
  RequestMaker maker;
  FileLineReader lines;
  int64_t num_lines = 0;
  std::unordered_set<std::string> custom_ids;

  std::variant<InputLine, LineFault> understand(const FileLineReader::Line& line);
  bool may_have_custom_id(const FileLineReader::Line& line) const;
  Prompt prompt_of(int64_t index, const FileLineReader::Line& line,
                   std::variant<InputLine, LineFault> understood);
};

// OpenAI's ids name the answers, so the second line with one is refused. This keeps all of them in memory,
// which only such input pays for; and it must see every line, also those that a resumed job passes over, or
// the same line would fare differently then.
std::variant<InputLine, LineFault> PromptSource::Parts::understand(const FileLineReader::Line& line) {
  if (line.is_too_long) {
    return LineFault{LineForm::kPlain, "", {"malformed_line", "the line is longer than 64 MiB"}};
  }
  auto understood = parse_input_line(line.text, options.task, options.sampling);
  const auto [form, id] =
      std::visit([](const auto& seen) { return std::pair(seen.form, seen.id); }, understood);
  if (form != LineForm::kPlain && !id.empty() && may_have_custom_id(line) && !custom_ids.insert(id).second) {
    return LineFault{form, id, {"duplicate_id", "custom_id \"" + id + "\" was given by an earlier line"}};
  }
  return understood;
}

bool PromptSource::Parts::may_have_custom_id(const FileLineReader::Line& line) const {
  // The key could also be written with escapes; no known writer does, and such a line is then merely not
  // compared.
  return line.text.find("\"custom_id\"") != std::string_view::npos;
}

Prompt PromptSource::Parts::prompt_of(int64_t index, const FileLineReader::Line& line,
                                      std::variant<InputLine, LineFault> understood) {
  LineFault fault;
  if (const auto* input = std::get_if<InputLine>(&understood)) {
    try {
      return maker.make(index, *input);
    } catch (const TextError& error) {
      fault = {input->form, input->id, {error.code(), error.what()}};
    }
  } else {
    fault = std::move(std::get<LineFault>(understood));
  }
  Record record;
  record.index = index;
  record.id = fault.id.empty() ? std::to_string(index) : fault.id;
  record.task = options.task;
  record.form = fault.form;
  record.error = RequestError{fault.error.code, place_of(line) + fault.error.message};
  if (auto* input = std::get_if<InputLine>(&understood))
    record.metadata_json = std::move(input->metadata_json);
  return record;
}

PromptSource::PromptSource(PromptSourceOptions options, const Tokenizer& tokenizer,
                           ChatTemplate* chat_template) {
  RequestMaker maker({options.task, options.max_context, options.bos_id}, tokenizer, chat_template);
  FileLineReader lines(expand_input_paths(options.paths));
  parts_.reset(new Parts{std::move(options), std::move(maker), std::move(lines), 0, {}});
}
PromptSource::PromptSource(PromptSource&&) noexcept = default;
PromptSource& PromptSource::operator=(PromptSource&&) noexcept = default;
PromptSource::~PromptSource() = default;

std::optional<Prompt> PromptSource::next(const std::function<bool(int64_t)>& needed) {
  while (const auto line = parts_->lines.next()) {
    if (!line->is_too_long && is_blank(line->text)) continue;
    const int64_t index = parts_->num_lines++;
    if (needed(index)) return parts_->prompt_of(index, *line, parts_->understand(*line));
    if (parts_->may_have_custom_id(*line)) parts_->understand(*line);
  }
  return std::nullopt;
}

std::optional<Prompt> PromptSource::next() {
  return next([](int64_t) { return true; });
}

int64_t PromptSource::num_lines() const {
  return parts_->num_lines;
}
const std::vector<std::string>& PromptSource::files() const {
  return parts_->lines.files();
}

}  // namespace nemo
