#include "lib/output/manifest.h"

#include <nlohmann/json.hpp>

#include "lib/output/files.h"

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;  // keys stay in the order in which people read them

const char* name_of(RunStatus status) {
  switch (status) {
    case RunStatus::kRunning:
      return "running";
    case RunStatus::kStopped:
      return "stopped";
    case RunStatus::kFailed:
      return "failed";
    case RunStatus::kComplete:
      return "complete";
  }
  return "";
}

template <class T>
Json object_of(const std::vector<std::pair<std::string, T>>& items) {
  Json json = Json::object();
  for (const auto& [name, value] : items) json[name] = value;
  return json;
}

Json counts_of(const Manifest& m) {
  return {{"requests", m.num_requests},
          {"done", m.num_done},
          {"resumed", m.num_resumed},
          {"errors", m.totals.errors},
          {"outputs", m.totals.outputs},
          {"prompt_tokens", m.totals.prompt_tokens},
          {"output_tokens", m.totals.output_tokens},
          {"computed_tokens", m.computed_tokens},
          {"recomputed_tokens", m.recomputed_tokens}};
}

Json layout_of(const LayoutSummary& layout) {
  return {{"world_size", layout.world_size}, {"replicas", layout.replicas}, {"pipeline", layout.pipeline},
          {"expert", layout.expert},         {"threads", layout.threads},   {"hosts", layout.hosts}};
}

}  // namespace

std::string to_json(const Manifest& m) {
  const Json json = {{"schema_version", 1},
                     {"name", m.name},
                     {"task", m.task == Task::kScore ? "score" : "generate"},
                     {"status", name_of(m.status)},
                     {"fingerprints", object_of(m.fingerprints)},
                     {"guarantee",
                      {{"promise", m.guarantee.promise},
                       {"instruction_set", m.guarantee.instruction_set},
                       {"dtype", m.guarantee.dtype},
                       {"kv_cache", m.guarantee.kv_cache},
                       {"build", m.guarantee.build}}},
                     {"counts", counts_of(m)},
                     {"versions", object_of(m.versions)},
                     {"timings_s", object_of(m.timings_s)},
                     {"layout", layout_of(m.layout)},
                     {"weight_bytes", {{"read", m.weight_bytes.read}, {"planned", m.weight_bytes.planned}}},
                     {"communication", object_of(m.communication)},
                     {"result_files", m.result_files}};
  // Host names and paths come from outside; they need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void write_manifest(const std::string& path, const Manifest& manifest) {
  AtomicFile file(path);
  file.write(to_json(manifest));
  file.publish();
}

}  // namespace nemo
