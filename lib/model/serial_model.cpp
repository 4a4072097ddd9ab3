#include "lib/model/serial_model.h"

#include "kernels/error.h"
#include "lib/model/kv_scales.h"

namespace nemo {

namespace {

std::vector<Layer> load_all_layers(const Checkpoint& checkpoint, const ModelConfig& config,
                                   kernels::DType dtype) {
  std::vector<Layer> layers;
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    const kernels::ExpertRange all{0, config.layers[static_cast<size_t>(i)].n_routed_experts};
    layers.push_back(load_layer(checkpoint, config, i, all, dtype));
  }
  return layers;
}

}  // namespace

SerialModel::SerialModel(const std::string& path, Options options)
    : config_(load_model_config(path)),
      threads_(options.threads),
      context_{threads_, kernels::detect_isa(), options.dtype},
      state_(config_, {.layer_begin = 0,
                       .layer_end = config_.num_layers(),
                       .num_slots = 1,
                       .num_pages = kernels::kv_pages_of(config_.max_position_embeddings),
                       .kv_format = options.kv_format}) {
  const Checkpoint checkpoint = Checkpoint::open(path, config_);
  embedding_ = load_embedding(checkpoint, config_, options.dtype);
  layers_ = load_all_layers(checkpoint, config_, options.dtype);
  head_ = load_lm_head(checkpoint, config_, options.dtype);
  load_kv_scales(checkpoint, config_, state_);
}

std::vector<int32_t> SerialModel::take_new_pages(int64_t num_tokens) {
  std::vector<int32_t> pages;
  for (int64_t page = kernels::kv_pages_of(position_); page < kernels::kv_pages_of(position_ + num_tokens);
       ++page)
    pages.push_back(static_cast<int32_t>(page));
  return pages;
}

kernels::TensorView<const float> SerialModel::forward(std::span<const int32_t> token_ids,
                                                      const LayerObserver& observer) {
  const auto num_rows = static_cast<int64_t>(token_ids.size());
  if (position_ + num_rows > config_.max_position_embeddings)
    throw Error(config_.name,
                "a sequence of " + std::to_string(position_ + num_rows) + " tokens is longer than " +
                    "max_position_embeddings = " + std::to_string(config_.max_position_embeddings),
                "shorten the prompt or max_tokens");
  state_.prepare(0, position_, take_new_pages(num_rows));
  const kernels::Segment segment{.row_begin = 0, .row_count = num_rows, .slot = 0, .position = position_};
  const kernels::PageTable page_table = state_.page_table(0);
  const Step step{context_, config_, workspace_, {&segment, 1}, {&page_table, 1}};

  stream_.resize(static_cast<size_t>(num_rows * config_.hidden_size));
  kernels::TensorView<float> stream(stream_.data(), num_rows, config_.hidden_size);
  kernels::embed(context_, token_ids, embedding_, stream);
  for (int64_t i = 0; i < config_.num_layers(); ++i) {
    forward_layer(step, i, layers_[static_cast<size_t>(i)], state_, stream,
                  [&](const LayerConfig& config, const MoeLayer& layer, kernels::TensorView<const float> x,
                      kernels::TensorView<float> y) { moe_mixer(step, config, layer, x, y); });
    if (observer) observer(i, stream);
  }
  position_ += num_rows;
  return stream;
}

void SerialModel::logits(kernels::TensorView<const float> stream, kernels::TensorView<float> logits) {
  forward_lm_head(context_, config_, workspace_, head_, stream, logits);
}

}  // namespace nemo
