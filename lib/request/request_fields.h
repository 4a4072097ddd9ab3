// The fields, for lib/request/byte_codec.h, of values that are part of messages in several places.
#pragma once

#include "lib/request/byte_codec.h"
#include "lib/request/request.h"

namespace nemo {

template <Fields<SamplingParams> T, class Codec>
void each_field(T& p, Codec& codec) {
  codec(p.max_tokens, p.min_tokens, p.temperature, p.top_p, p.top_k, p.min_p, p.n, p.seed,
        p.repetition_penalty, p.frequency_penalty, p.presence_penalty, p.stop, p.stop_token_ids, p.ignore_eos,
        p.logprobs);
}
template <Fields<TokenLogprob> T, class Codec>
void each_field(T& t, Codec& codec) {
  codec(t.token_id, t.logprob);
}

}  // namespace nemo
