#include "lib/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <sstream>

#include "kernels/error.h"

namespace nemo {
namespace {

// A job file has three levels. yaml-cpp's own limit is far higher, and it recurses on the stack.
constexpr size_t kMaxDepth = 32;

/// Builds the tree from the parser's events. yaml-cpp's own nodes would share anchored parts and hide
/// duplicate keys.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string where, YamlPlaces places) : where_(std::move(where)), places_(places) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(make_node(YamlNode::Kind::kNull, mark), mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases are not supported in a job file",
         "write the value out, or quote it if it is a text that begins with *");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!") fail(mark, "tags are not supported in a job file", "remove " + tag);
    const bool is_quoted = tag == "!";
    const bool is_null = !is_quoted && (value == "~" || value == "null" || value.empty());
    YamlNode node = make_node(is_null ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar, mark);
    node.scalar = value;
    node.is_quoted = is_quoted;
    add(std::move(node), mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::Mark mark;
    bool has_key = false;  ///< the next event is the value of `key`
    std::string key;
    YAML::Mark key_mark;
    std::map<std::string, std::string> key_places;  ///< of all keys so far
  };

  std::string place(const YAML::Mark& mark) const {
    return places_ == YamlPlaces::kWhole ? where_ : where_ + ":" + std::to_string(mark.line + 1);
  }

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what, const std::string& remedy) const {
    throw Error(place(mark), what, remedy, ErrorKind::kBadJob);
  }

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0)
      fail(mark, "anchors are not supported in a job file", "write the value out where it is used");
  }

  YamlNode make_node(YamlNode::Kind kind, const YAML::Mark& mark) const {
    YamlNode node;
    node.kind = kind;
    node.where = place(mark);
    return node;
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty())
      fail(mark, "tags are not supported in a job file", "remove " + tag);
    if (open_.size() >= kMaxDepth) fail(mark, "nested deeper than " + std::to_string(kMaxDepth), "");
    open_.push_back({make_node(kind, mark), mark, false, {}, {}, {}});
  }

  void close() {
    Open finished = std::move(open_.back());
    open_.pop_back();
    add(std::move(finished.node), finished.mark);
  }

  void add(YamlNode node, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      add_key(parent, node, mark);
    } else {
      node.where = place(parent.key_mark);
      parent.node.members.push_back({std::move(parent.key), std::move(node)});
      parent.has_key = false;
    }
  }

  void add_key(Open& parent, const YamlNode& key, const YAML::Mark& mark) const {
    if (key.kind != YamlNode::Kind::kScalar) fail(mark, "a key must be a word", "");
    const auto [first, is_new] = parent.key_places.emplace(key.scalar, place(mark));
    if (!is_new) {
      fail(mark, "key '" + key.scalar + "' is given twice, first at " + first->second,
           "remove one of the two");
    }
    parent.has_key = true;
    parent.key = key.scalar;
    parent.key_mark = mark;
  }

  std::string where_;
  YamlPlaces places_;
  YamlNode root_;
  std::vector<Open> open_;
};

}  // namespace

YamlNode parse_yaml(const std::string& text, const std::string& where, YamlPlaces places) {
  if (text.find('\0') != std::string::npos) {
    throw Error(where, "holds a zero byte; it is not a text file", "", ErrorKind::kBadJob);
  }
  TreeBuilder builder(where, places);
  std::istringstream stream(text);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    YamlNode root = builder.take_root();
    if (parser.HandleNextDocument(builder)) {
      throw Error(where, "holds more than one YAML document", "remove what follows `---`",
                  ErrorKind::kBadJob);
    }
    return root;
  } catch (const YAML::Exception& error) {
    const std::string column = std::to_string(error.mark.column + 1);
    const std::string place = places == YamlPlaces::kWhole
                                  ? where
                                  : where + ":" + std::to_string(error.mark.line + 1) + ":" + column;
    throw Error(place, "not valid YAML: " + error.msg, "", ErrorKind::kBadJob);
  }
}

}  // namespace nemo
