#include "lib/weights/synthetic/byte_tokenizer.h"

#include <array>
#include <string_view>

#include "lib/text/byte_alphabet.h"

namespace nemo {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 18> kSpecials = {"<unk>",
                                                        "<s>",
                                                        "</s>",
                                                        "[INST]",
                                                        "[/INST]",
                                                        "[AVAILABLE_TOOLS]",
                                                        "[/AVAILABLE_TOOLS]",
                                                        "[TOOL_RESULTS]",
                                                        "[/TOOL_RESULTS]",
                                                        "[TOOL_CALLS]",
                                                        "<|im_start|>",
                                                        "<|im_end|>",
                                                        "<think>",
                                                        "</think>",
                                                        "<tool_call>",
                                                        "</tool_call>",
                                                        "<tool_response>",
                                                        "</tool_response>"};
static_assert(kByteTokenizerIds == kSpecials.size() + 256);

constexpr std::string_view kChatTemplate =
    "{%- for message in messages -%}\n"
    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n";

}  // namespace

json byte_tokenizer() {
  json added = json::array(), vocab = json::object();
  for (const std::string_view token : kSpecials) {
    added.push_back({{"id", added.size()},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    vocab[std::string(token)] = vocab.size();
  }
  for (int byte = 0; byte < 256; ++byte)
    vocab[spelling_of_byte(static_cast<unsigned char>(byte))] = kSpecials.size() + static_cast<size_t>(byte);
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", json::array()}}}};
}

json byte_tokenizer_config() {
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", "<s>"},
          {"eos_token", "<|im_end|>"},
          {"unk_token", "<unk>"},
          {"pad_token", "<unk>"},
          {"add_bos_token", false},
          {"add_eos_token", false},
          {"clean_up_tokenization_spaces", false},
          {"chat_template", kChatTemplate}};
}

}  // namespace nemo
