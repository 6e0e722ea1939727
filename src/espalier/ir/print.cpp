// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "espalier/ir/graph.h"

namespace espalier::ir {
namespace {

bool is_bare(std::string_view text) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '.'; };
  return !text.empty() && letter(text[0]) && std::all_of(text.begin(), text.end(), inner);
}

/// Control bytes, quotes and backslashes are escaped; other bytes stay as they are.
std::string quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string name_or_quote(std::string_view text) {
  return is_bare(text) ? std::string(text) : quote(text);
}

struct AttrText {
  std::string operator()(int64_t value) const { return fmt::format("{}", value); }
  /// The shortest digits that read back to the same double.
  std::string operator()(double value) const {
    return std::isnan(value) ? "nan" : fmt::format("{}", value);
  }
  std::string operator()(const std::vector<int64_t>& values) const {
    return fmt::format("[{}]", fmt::join(values, ","));
  }
  std::string operator()(const std::string& text) const { return quote(text); }
  std::string operator()(DType dtype) const { return std::string(espalier::name(dtype)); }
};

std::string str(Value value) {
  return value.index == 0 ? fmt::format("%{}", value.node)
                          : fmt::format("%{}.{}", value.node, value.index);
}

std::string str(const Node& node) {
  std::string out(name(node.op));
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    out += (i == 0 ? " " : ", ") + str(node.inputs[i]);
  }
  if (!node.attrs.empty()) {
    const char* separator = " {";
    for (const auto& [key, value] : node.attrs) {
      out += fmt::format("{}{}={}", separator, name(key), std::visit(AttrText{}, value));
      separator = ", ";
    }
    out += '}';
  }
  for (size_t i = 0; i < node.types.size(); ++i) {
    out += (i == 0 ? " : " : ", ") + node.types[i].str();
  }
  if (!node.scope->empty()) out += " @" + quote(*node.scope);
  return out;
}

std::string str(const Output& output) {
  std::string out = name_or_quote(output.name) + '=' + str(output.value);
  if (output.alias >= 0) out += fmt::format(" -> %{}", output.alias);
  return out;
}

void print_bodies(std::string& out, const Graph& graph, const std::string& indent);

/// "{ bodies? nodes return }": bodies of a body stand inside it, those of a graph before it.
void print_block(std::string& out, const Graph& graph, const std::string& indent) {
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    out += fmt::format("{}  %{} = {}\n", indent, i, str(graph.nodes()[i]));
  }
  const bool one_line = graph.outputs().size() <= 3;
  std::string separator = one_line ? " " : "\n" + indent + "    ";
  out += indent + "  return";
  for (const Output& output : graph.outputs()) {
    out += separator + str(output);
    separator = one_line ? ", " : ",\n" + indent + "    ";
  }
  out += "\n" + indent + "}\n";
}

void print_bodies(std::string& out, const Graph& graph, const std::string& indent) {
  for (size_t i = 0; i < graph.bodies().size(); ++i) {
    const Graph& body = *graph.bodies()[i];
    out += fmt::format("{}body {} {} {{\n", indent, i, name_or_quote(body.name()));
    print_bodies(out, body, indent + "  ");
    print_block(out, body, indent);
  }
}

}  // namespace

std::string print(const Graph& graph) {
  std::string out;
  print_bodies(out, graph, "");
  out += fmt::format("graph {} {{\n", name_or_quote(graph.name()));
  print_block(out, graph, "");
  return out;
}

}  // namespace espalier::ir
