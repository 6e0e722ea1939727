// SPDX-License-Identifier: Apache-2.0
// Reads ONNX node tests: one-node models and their tensors. Only the parts of the protobuf wire
// format and of onnx.proto that those files use (https://protobuf.dev/programming-guides/encoding,
// https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
#pragma once

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/error.h"
#include "espalier/interp/interp.h"

namespace espalier::testing::onnx {

/// Walks the fields of one message.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  /// Moves to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case 0:
        number = varint();
        data = {};
        break;
      case 1:
        data = take(8);
        break;
      case 2:
        data = take(varint());
        break;
      case 5:
        data = take(4);
        break;
      default:
        fail(ErrorKind::data, "onnx", "wire type {} of field {}", tag & 7, field);
    }
    return true;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail(ErrorKind::data, "onnx", "a varint of more than 10 bytes");
  }
  bool at_end() const { return at_ == bytes_.size(); }

  int field = 0;
  uint64_t number = 0;    // of a varint field
  std::string_view data;  // of the others

 private:
  std::string_view take(uint64_t size) {
    ESPALIER_CHECK(size <= bytes_.size() - at_, ErrorKind::data, "onnx", "the message is cut off");
    const std::string_view part = bytes_.substr(at_, size);
    at_ += size;
    return part;
  }
  std::string_view bytes_;
  size_t at_ = 0;
};

struct Node {
  std::string op;
  std::vector<std::string> inputs, outputs;  // "" = not given
  std::map<std::string, int64_t> integers;
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;

  int64_t integer(const std::string& key, int64_t fallback) const {
    const auto found = integers.find(key);
    return found == integers.end() ? fallback : found->second;
  }
  double real(const std::string& key, double fallback) const {
    const auto found = reals.find(key);
    return found == reals.end() ? fallback : found->second;
  }
  std::string text(const std::string& key, const std::string& fallback) const {
    const auto found = texts.find(key);
    return found == texts.end() ? fallback : found->second;
  }
};

/// A model of one node; names of its graph inputs and outputs in the order of the data files.
struct Model {
  std::vector<Node> nodes;
  std::vector<std::string> inputs, outputs;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  ESPALIER_CHECK(file.good(), ErrorKind::data, "onnx", "cannot read {}", path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename T>
T from_bytes(std::string_view bytes, size_t index = 0) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

inline void read_attribute(std::string_view bytes, Node& node) {
  std::string name;
  for (Message m(bytes); m.next();) {
    if (m.field == 1) name = m.data;
    if (m.field == 2) node.reals[name] = static_cast<double>(from_bytes<float>(m.data));
    if (m.field == 3) node.integers[name] = static_cast<int64_t>(m.number);
    if (m.field == 4) node.texts[name] = m.data;
  }
}

inline Node read_node(std::string_view bytes) {
  Node node;
  for (Message m(bytes); m.next();) {
    if (m.field == 1) node.inputs.emplace_back(m.data);
    if (m.field == 2) node.outputs.emplace_back(m.data);
    if (m.field == 4) node.op = m.data;
    if (m.field == 5) read_attribute(m.data, node);
  }
  return node;
}

inline Model read_model(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  Model model;
  const auto value_name = [](std::string_view info) {
    for (Message m(info); m.next();) {
      if (m.field == 1) return std::string(m.data);
    }
    return std::string();
  };
  for (Message file(bytes); file.next();) {
    if (file.field != 7) continue;
    for (Message graph(file.data); graph.next();) {
      if (graph.field == 1) model.nodes.push_back(read_node(graph.data));
      if (graph.field == 11) model.inputs.push_back(value_name(graph.data));
      if (graph.field == 12) model.outputs.push_back(value_name(graph.data));
    }
  }
  return model;
}

/// dtype of a TensorProto.DataType; none for those we do not have.
inline std::optional<DType> dtype_of(uint64_t data_type) {
  switch (data_type) {
    case 1:
      return DType::f32;
    case 2:
      return DType::u8;
    case 6:
      return DType::i32;
    case 7:
      return DType::i64;
    case 9:
      return DType::boolean;
    case 10:
      return DType::f16;
    case 11:
      return DType::f64;
    case 16:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

inline double element(DType dtype, std::string_view raw, size_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<double>(from_bytes<float>(raw, i));
    case DType::f64:
      return from_bytes<double>(raw, i);
    case DType::f16:
      return static_cast<double>(from_f16(from_bytes<uint16_t>(raw, i)));
    case DType::bf16:
      return static_cast<double>(from_bf16(from_bytes<uint16_t>(raw, i)));
    case DType::i32:
      return from_bytes<int32_t>(raw, i);
    case DType::i64:
      return static_cast<double>(from_bytes<int64_t>(raw, i));
    default:
      return from_bytes<uint8_t>(raw, i);
  }
}

/// One tensor; throws `unsupported` for a dtype that we do not have.
inline interp::DoubleTensor read_tensor(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  Shape shape;
  std::string_view raw;
  std::optional<DType> dtype;
  uint64_t data_type = 0;
  for (Message m(bytes); m.next();) {
    if (m.field == 1 && m.data.empty()) shape.push_back(static_cast<int64_t>(m.number));
    if (m.field == 1 && !m.data.empty()) {
      for (Message packed(m.data); !packed.at_end();) {
        shape.push_back(static_cast<int64_t>(packed.varint()));
      }
    }
    if (m.field == 2) dtype = dtype_of(data_type = m.number);
    if (m.field == 9) raw = m.data;
  }
  ESPALIER_CHECK(dtype.has_value(), ErrorKind::unsupported, "onnx", "data type {}", data_type);
  const auto count = static_cast<size_t>(shape.numel());
  ESPALIER_CHECK(raw.size() == count * static_cast<size_t>(size_of(*dtype)), ErrorKind::data,
                 "onnx", "{} raw bytes for {}", raw.size(), shape.str());
  interp::DoubleTensor tensor{{*dtype, shape}, std::vector<double>(count)};
  for (size_t i = 0; i < count; ++i) tensor.data[i] = element(*dtype, raw, i);
  return tensor;
}

}  // namespace espalier::testing::onnx
