// tokenizer.json and, after a zero byte, a text for it. The text is encoded, decoded, and its ids looked up.
#include "lib/text/tokenizer.h"
#include "lib/text/utf8.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemo;
  const std::vector<std::string> parts = fuzz::split(fuzz::text_of(data, size), 2);
  fuzz::accepts([&] {
    const Tokenizer tokenizer = Tokenizer::parse(parts[0], "tokenizer.json");
    for (const int32_t id : tokenizer.special_ids())
      fuzz::require(tokenizer.is_special(id), "special is special");
    std::vector<int32_t> ids = tokenizer.encode(parts[1], AddSpecialTokens::kYes);
    for (const int32_t id : ids)
      fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "ids are in the vocabulary");
    ids.insert(ids.end(), {-1, INT32_MAX, static_cast<int32_t>(tokenizer.vocab_size())});
    for (const auto skip : {SkipSpecialTokens::kNo, SkipSpecialTokens::kYes}) {
      fuzz::require(!find_invalid_utf8(tokenizer.decode(ids, skip)), "decoded text is UTF-8");
    }
  });
  return 0;
}
