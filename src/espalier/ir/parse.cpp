// SPDX-License-Identifier: Apache-2.0
// Grammar ("#" starts a comment, white space is free):
//   file   := body* "graph" name block
//   body   := "body" INTEGER name "{" body* node* return "}"
//   node   := "%N" "=" op (value ("," value)*)? ("{" key "=" attr, ... "}")? ":" types ("@" text)?
//   return := "return" (name "=" value ("->" "%N")?, ...)?
#include <algorithm>
#include <map>

#include "espalier/base/error.h"
#include "espalier/base/text.h"
#include "espalier/ir/builder.h"
#include "espalier/ir/text_reader.h"

namespace espalier::ir {
namespace {

constexpr int kMaxBodyDepth = 16;

template <typename Table>
std::vector<std::string> names(const Table& of, int count) {
  std::vector<std::string> out;
  out.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) out.emplace_back(of(i));
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : in_(text) {}

  Graph file() {
    std::vector<std::shared_ptr<const Graph>> found = bodies(0);
    const size_t start = in_.position();
    in_.expect_word("graph");
    const std::string graph_name = in_.name();
    in_.expect("{");
    Graph graph = block(graph_name, std::move(found));
    if (!in_.at_end()) in_.fail_here("text after the graph");
    in_.guard(start, [&] { verify(graph); });
    return graph;
  }

 private:
  std::vector<std::shared_ptr<const Graph>> bodies(int depth) {
    std::vector<std::shared_ptr<const Graph>> found;
    while (true) {
      const size_t start = in_.position();
      if (!in_.accept_word("body")) return found;
      if (depth == kMaxBodyDepth) in_.fail_at(start, "bodies are nested too deep");
      const int64_t index = in_.integer();
      if (index != static_cast<int64_t>(found.size())) {
        in_.fail_at(start, fmt::format("body {} comes where body {} belongs", index, found.size()));
      }
      const std::string body_name = in_.name();
      in_.expect("{");
      auto inner = bodies(depth + 1);
      found.push_back(std::make_shared<const Graph>(block(body_name, std::move(inner))));
    }
  }

  /// Nodes and the return statement, up to the closing brace.
  Graph block(const std::string& graph_name, std::vector<std::shared_ptr<const Graph>> inner) {
    Builder builder(graph_name);
    for (auto& body : inner) builder.add_body(std::move(body));
    std::map<int64_t, int32_t> labels;
    while (in_.accept("%")) node(builder, labels);
    in_.expect_word("return");
    while (!in_.accept("}")) {
      const std::string output_name = in_.name();
      in_.expect("=");
      const Value result = value(builder, labels);
      Value alias;
      const size_t start = in_.position();
      if (in_.accept("->")) {
        alias = value(builder, labels);
        in_.guard(start, [&] { builder.output(output_name, result, alias); });
      } else {
        builder.output(output_name, result);
      }
      if (in_.accept(",")) continue;
      in_.expect("}");
      break;
    }
    return builder.finish();
  }

  void node(Builder& builder, std::map<int64_t, int32_t>& labels) {
    const size_t start = in_.position();
    const int64_t label = in_.integer();
    if (labels.count(label) != 0) in_.fail_at(start, fmt::format("%{} is defined twice", label));
    in_.expect("=");
    const Op op = operation();
    std::vector<Value> inputs;
    if (in_.peek('%')) {
      do inputs.push_back(value(builder, labels));
      while (in_.accept(","));
    }
    Attrs attrs;
    if (in_.accept("{")) attributes(attrs);
    in_.expect(":");
    const size_t type_start = in_.position();
    std::vector<TensorType> types;
    do types.push_back(type());
    while (in_.accept(","));
    builder.set_scope(in_.accept("@") ? in_.quoted() : "");

    if (op == Op::input || op == Op::fusion) {
      in_.guard(start, [&] { typed_node(builder, op, inputs, attrs, types); });
    } else {
      Value made;
      in_.guard(start, [&] { made = builder.add(op, inputs, attrs); });
      const std::vector<TensorType>& inferred = *builder.node(made).types;
      if (inferred != types) {
        const size_t at = static_cast<size_t>(
            std::mismatch(types.begin(), types.end(), inferred.begin(), inferred.end()).first -
            types.begin());
        in_.fail_at(
            type_start,
            fmt::format("{} gives {} results, result {} is {}; the text says {}", name(op),
                        inferred.size(), at, at < inferred.size() ? inferred[at].str() : "none",
                        at < types.size() ? types[at].str() : "none"));
      }
    }
    labels[label] = static_cast<int32_t>(builder.graph().nodes().size()) - 1;
  }

  static void typed_node(Builder& builder, Op op, const std::vector<Value>& inputs,
                         const Attrs& attrs, const std::vector<TensorType>& types) {
    const std::vector<TensorType> operands(inputs.size());
    check_use({op, operands, attrs});
    builder.add_typed(op, inputs, attrs, types);
  }

  Op operation() {
    const size_t start = in_.position();
    const std::string text = in_.word();
    const std::optional<Op> op = parse_op(text);
    if (op) return *op;
    const auto all = names([](int i) { return name(static_cast<Op>(i)); }, kOpCount);
    in_.fail_at(start, fmt::format("no op {}{}", text, nearest_hint(text, all)));
  }

  Value value(const Builder& builder, const std::map<int64_t, int32_t>& labels) {
    const size_t start = in_.position();
    in_.expect("%");
    const int64_t label = in_.integer();
    const auto found = labels.find(label);
    if (found == labels.end()) in_.fail_at(start, fmt::format("%{} is not defined yet", label));
    const int64_t index = in_.accept(".") ? in_.integer() : 0;
    const auto count = static_cast<int64_t>(builder.graph().node(found->second).types.size());
    if (index < 0 || index >= count) {
      in_.fail_at(start,
                  fmt::format("%{} has {} results, none with index {}", label, count, index));
    }
    return {found->second, static_cast<int32_t>(index)};
  }

  void attributes(Attrs& attrs) {
    do {
      const size_t start = in_.position();
      const std::string key_text = in_.word();
      const std::optional<Attr> key = parse_attr(key_text);
      if (!key) {
        const int count = static_cast<int>(Attr::body) + 1;
        const auto all = names([](int i) { return name(static_cast<Attr>(i)); }, count);
        in_.fail_at(start, fmt::format("no attribute {}{}", key_text, nearest_hint(key_text, all)));
      }
      if (attrs.has(*key)) in_.fail_at(start, fmt::format("{} is given twice", key_text));
      in_.expect("=");
      attrs.set(*key, attribute(kind(*key)));
    } while (in_.accept(","));
    in_.expect("}");
  }

  AttrValue attribute(AttrKind kind) {
    switch (kind) {
      case AttrKind::integer:
        return in_.integer();
      case AttrKind::real:
        return in_.real();
      case AttrKind::integers:
        return in_.integers();
      case AttrKind::text:
        return in_.quoted();
      case AttrKind::dtype:
        break;
    }
    return dtype();
  }

  DType dtype() {
    const size_t start = in_.position();
    const std::string text = in_.word();
    const std::optional<DType> found = parse_dtype(text);
    if (found) return *found;
    const auto all = names([](int i) { return espalier::name(static_cast<DType>(i)); }, 8);
    in_.fail_at(start, fmt::format("no dtype {}{}", text, nearest_hint(text, all)));
  }

  TensorType type() {
    const size_t start = in_.position();
    const DType element = dtype();
    TensorType type{element, Shape(in_.integers())};
    in_.guard(start, [&] { type.shape.numel(); });
    return type;
  }

  TextReader in_;
};

}  // namespace

Graph parse(std::string_view text) { return Parser(text).file(); }

}  // namespace espalier::ir
