#include "lib/config/job_config.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "kernels/error.h"
#include "lib/config/canonical_job.h"
#include "lib/config/job_schema.h"
#include "lib/config/job_value.h"
#include "lib/config/json_text.h"
#include "lib/config/nearest_key.h"
#include "lib/config/sampling_limits.h"
#include "lib/config/yaml_tree.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxJobBytes = 1 << 20;

/// Values by full key: those of the file, then those of the command line over them.
using Values = std::map<std::string, YamlNode>;

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// What to tell a user whose key `name` is not in `section`.
std::string advice_on_unknown_key(const std::string& section, const std::string& name) {
  const std::vector<std::string> known = job_key_names(section);
  if (const auto nearest = nearest_key(name, known)) return "did you mean '" + *nearest + "'?";
  for (const JobKey& key : job_keys()) {  // the right word in the wrong place
    const std::string path(key.path);
    if (path.ends_with("." + name) || path == name) return "did you mean '" + path + "'?";
  }
  return (section.empty() ? "known: " : "known in " + section + ": ") + join(known);
}

[[noreturn]] void refuse_unknown(const YamlNode& node, const std::string& section, const std::string& name) {
  throw Error(node.where + ": " + (section.empty() ? name : section + "." + name), "unknown key",
              advice_on_unknown_key(section, name), ErrorKind::kBadJob);
}

/// Stores a section's keys. An empty section is allowed: all its keys have their defaults.
void add_section(const std::string& section, const YamlNode& node, Values& values) {
  const std::vector<std::string> known = job_key_names(section);
  if (node.kind == YamlNode::Kind::kNull) return;
  if (node.kind != YamlNode::Kind::kMap) {
    throw Error(node.where + ": " + section, "is a section, not a value", "its keys: " + join(known),
                ErrorKind::kBadJob);
  }
  for (const auto& [name, value] : node.members) {
    if (!contains(known, name)) refuse_unknown(value, section, name);
    values.insert_or_assign(section + "." + name, value);
  }
}

/// Stores a member of the document's top: a section or a plain key.
void add_top(const std::string& name, const YamlNode& node, Values& values) {
  if (contains(job_sections(), name)) return add_section(name, node, values);
  if (!contains(job_key_names(""), name)) refuse_unknown(node, "", name);
  values.insert_or_assign(name, node);
}

void add_file(const std::string& path, Values& values) {
  if (!fs::exists(path))
    throw Error(path, "does not exist", "give the job file to --job", ErrorKind::kBadJob);
  if (!fs::is_regular_file(path)) throw Error(path, "is not a file", "", ErrorKind::kBadJob);
  std::string text;
  try {
    text = read_text_file(path, kMaxJobBytes);
  } catch (const Error& error) {
    throw Error(error.what(), ErrorKind::kBadJob);
  }
  const YamlNode root = parse_yaml(text, path, YamlPlaces::kLines);
  if (root.kind == YamlNode::Kind::kNull) return;
  if (root.kind != YamlNode::Kind::kMap) {
    throw Error(root.where, "a job file is a map of keys, not a list or a single value", "",
                ErrorKind::kBadJob);
  }
  for (const auto& [name, node] : root.members) add_top(name, node, values);
}

void add_override(const std::string& text, Values& values) {
  const std::string where = "--set " + text;
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    throw Error(where, "has no '='", "write --set section.key=value", ErrorKind::kBadJob);
  }
  const std::string path = text.substr(0, equals);
  const YamlNode node = parse_yaml(text.substr(equals + 1), where, YamlPlaces::kWhole);
  const size_t dot = path.find('.');
  if (dot == std::string::npos) return add_top(path, node, values);
  const std::string section = path.substr(0, dot);
  if (!contains(job_sections(), section)) refuse_unknown(node, "", section);
  YamlNode wrapped;
  wrapped.kind = YamlNode::Kind::kMap;
  wrapped.where = where;
  wrapped.members.push_back({path.substr(dot + 1), node});
  add_section(section, wrapped, values);
}

void require(const std::string& job_path, const Values& values) {
  for (const JobKey& key : job_keys()) {
    if (key.fallback == "required" && !values.contains(std::string(key.path))) {
      throw Error(job_path + ": " + std::string(key.path), "is missing", std::string(key.meaning),
                  ErrorKind::kBadJob);
    }
  }
}

/// Where a key was given, or the job file for one that was not.
std::string place_of(const std::string& key, const JobConfig& config, const Values& values) {
  const auto entry = values.find(key);
  return (entry == values.end() ? config.job_path : entry->second.where) + ": " + key;
}

void check_sampling(const JobConfig& config, const Values& values) {
  const auto fault = find_sampling_fault(config.sampling);
  if (!fault) return;
  const std::string key = "sampling." + std::string(fault->key);
  throw Error(place_of(key, config, values), fault->what, "", ErrorKind::kBadJob);
}

void check_engine(const JobConfig& config, const Values& values) {
  const EngineConfig& engine = config.engine;
  if (engine.prefill_chunk && engine.max_batch_tokens && *engine.prefill_chunk > *engine.max_batch_tokens) {
    throw Error(place_of("engine.prefill_chunk", config, values),
                std::to_string(*engine.prefill_chunk) + " is more than engine.max_batch_tokens " +
                    std::to_string(*engine.max_batch_tokens),
                "a prompt's chunk is part of a batch", ErrorKind::kBadJob);
  }
}

void make_paths_absolute(JobConfig& config) {
  const fs::path folder = fs::absolute(config.job_path).parent_path();
  const auto absolute = [&](const std::string& path) { return (folder / path).lexically_normal().string(); };
  config.model_path = absolute(config.model_path);
  config.output_path = absolute(config.output_path);
  for (std::string& path : config.input_paths) path = absolute(path);
}

}  // namespace

JobConfig load_job_config(const std::string& path, const std::vector<std::string>& overrides) {
  Values values;
  add_file(path, values);
  for (const std::string& text : overrides) add_override(text, values);
  require(path, values);
  JobConfig config;
  config.job_path = path;
  config.name = fs::path(path).stem().string();
  for (const JobKey& key : job_keys()) {
    const std::string key_path(key.path);
    const auto entry = values.find(key_path);
    if (entry != values.end()) key.set(JobValue(entry->second, key_path), config);
  }
  check_sampling(config, values);
  check_engine(config, values);
  make_paths_absolute(config);
  config.canonical_yaml = canonical_job_yaml(config);
  return config;
}

}  // namespace nemo
