// A YAML document as plain values that remember where they stood. Internal to lib/config; yaml_tree.cpp is
// the one file that includes yaml-cpp. Anchors, tags, duplicate keys and second documents are refused, so a
// tree is never larger than its text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct YamlMember;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string where;       ///< for errors: "job.yaml:12" or "--set a.b=1"
  std::string scalar;      ///< as written, without quotes
  bool is_quoted = false;  ///< a quoted scalar is a string even if it looks like a number
  std::vector<YamlNode> items;
  std::vector<YamlMember> members;  ///< in the order of the text
};

struct YamlMember {
  std::string key;
  YamlNode value;
};

/// How `where` of a node is made.
enum class YamlPlaces {
  kLines,  ///< where + ":" + line of the node (of its key, for the value of a key)
  kWhole,  ///< `where` itself: the text is one line of a command
};

/// Throws Error(kBadJob) with line and column for text that is no YAML or uses what we refuse.
YamlNode parse_yaml(const std::string& text, const std::string& where, YamlPlaces places);

}  // namespace nemo
