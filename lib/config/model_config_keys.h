// The one table of config.json's keys: which we use and which we ignore on purpose, and why. Internal to
// lib/config.
#pragma once

#include <span>
#include <string_view>

namespace nemo {

enum class KeyUse { kUsed, kIgnored };

struct ModelConfigKey {
  std::string_view name;
  KeyUse use;
  std::string_view note;  ///< what it is, or why it does not matter
};

/// All keys we know, old spellings included.
std::span<const ModelConfigKey> model_config_keys();

/// True for keys of the table and for comments, which begin with an underscore.
bool is_known_model_config_key(std::string_view name);

/// True for the keys an entry of block_configs or mtp_block_configs may have.
bool is_known_block_config_key(std::string_view name);

}  // namespace nemo
