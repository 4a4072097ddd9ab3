#include "lib/text/post_processor.h"

namespace nemo {
namespace {

void append_special(const JsonPlace& post_processor, const JsonPlace& piece, const TokenTable& tokens,
                    std::vector<int32_t>& out) {
  const JsonPlace entry = post_processor.at("special_tokens").at(piece.at("id").string());
  const JsonPlace ids = entry.at("ids");
  for (size_t i = 0; i < ids.array().size(); ++i) {
    out.push_back(static_cast<int32_t>(ids.at(i).integer(0, tokens.size() - 1)));
  }
}

PostProcessor parse_template(const JsonPlace& post_processor, const TokenTable& tokens) {
  PostProcessor result;
  const JsonPlace pieces = post_processor.at("single");
  bool text_seen = false;
  for (size_t i = 0; i < pieces.array().size(); ++i) {
    if (const auto special = pieces.at(i).find("SpecialToken")) {
      append_special(post_processor, *special, tokens, text_seen ? result.suffix : result.prefix);
    } else if (pieces.at(i).find("Sequence")) {
      if (text_seen) pieces.at(i).refuse("a template that has the text twice");
      text_seen = true;
    } else {
      pieces.at(i).fail("must have \"SpecialToken\" or \"Sequence\"");
    }
  }
  if (!text_seen) pieces.refuse("a template that has not the text");
  return result;
}

}  // namespace

PostProcessor PostProcessor::parse(const JsonPlace& post_processor, const TokenTable& tokens) {
  PostProcessor result;
  if (post_processor.is_null()) return result;
  const std::string& type = post_processor.at("type").string();
  if (type == "ByteLevel") return result;
  if (type == "TemplateProcessing") return parse_template(post_processor, tokens);
  if (type != "Sequence") post_processor.refuse("post-processor " + type);
  const JsonPlace steps = post_processor.at("processors");
  for (size_t i = 0; i < steps.array().size(); ++i) {
    if (steps.at(i).at("type").string() == "Sequence") steps.at(i).refuse("a Sequence inside a Sequence");
    const PostProcessor step = parse(steps.at(i), tokens);
    result.prefix.insert(result.prefix.begin(), step.prefix.begin(), step.prefix.end());
    result.suffix.insert(result.suffix.end(), step.suffix.begin(), step.suffix.end());
  }
  return result;
}

}  // namespace nemo
