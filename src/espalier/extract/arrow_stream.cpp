// SPDX-License-Identifier: Apache-2.0
#include "espalier/extract/arrow_stream.h"

#include <array>
#include <cstring>

#include <arrow_generated.h>
#include "espalier/base/error.h"

namespace espalier::extract {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

/// Where buffers begin, and what the format recommends for vector code.
constexpr int64_t kAlignment = 64;
constexpr std::array<std::byte, kAlignment> kZeros{};

int64_t padded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// The message whose flat buffer is finished: a mark, its size, itself, and zeros up to the body.
void write_message(io::ByteSink& out, const FlatBufferBuilder& builder) {
  constexpr int64_t kPrefix = 8;
  const int64_t size = padded(kPrefix + static_cast<int64_t>(builder.GetSize())) - kPrefix;
  std::array<std::byte, kPrefix> prefix{};
  const uint32_t mark = 0xFFFFFFFF, length = static_cast<uint32_t>(size);
  std::memcpy(prefix.data(), &mark, sizeof(mark));
  std::memcpy(prefix.data() + sizeof(mark), &length, sizeof(length));
  out.write(prefix);
  out.write(std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
  out.write(std::span(kZeros).first(static_cast<size_t>(size - builder.GetSize())));
}

std::vector<Offset<arrow::KeyValue>> pairs(
    FlatBufferBuilder& b, const std::vector<std::pair<std::string, std::string>>& metadata) {
  std::vector<Offset<arrow::KeyValue>> result;
  result.reserve(metadata.size());
  for (const auto& [key, value] : metadata) {
    result.push_back(arrow::CreateKeyValueDirect(b, key.c_str(), value.c_str()));
  }
  return result;
}

/// A column whose values `type` describes, with what it is a list of.
template <typename Made>
Offset<arrow::Field> field(FlatBufferBuilder& b, const std::string& name, arrow::Type kind,
                           Offset<Made> type, std::vector<Offset<arrow::Field>> children,
                           std::vector<Offset<arrow::KeyValue>> metadata = {}) {
  return arrow::CreateFieldDirect(b, name.c_str(), true, kind, type.Union(), 0, &children,
                                  metadata.empty() ? nullptr : &metadata);
}

/// list<list<float>>
Offset<arrow::Field> matrix_field(FlatBufferBuilder& b, const std::string& name,
                                  const ArrowTable& table) {
  const auto precision =
      table.dtype == DType::f32 ? arrow::Precision_SINGLE : arrow::Precision_HALF;
  auto value =
      field(b, "item", arrow::Type_FloatingPoint, arrow::CreateFloatingPoint(b, precision), {});
  auto row = field(b, "item", arrow::Type_List, arrow::CreateList(b), {value});
  return field(b, name, arrow::Type_List, arrow::CreateList(b), {row},
               pairs(b, table.matrix_metadata));
}

/// fixed_size_list<int32>[context]
Offset<arrow::Field> ids_field(FlatBufferBuilder& b, const ArrowTable& table) {
  auto value = field(b, "item", arrow::Type_Int, arrow::CreateInt(b, 32, true), {});
  return field(b, table.ids, arrow::Type_FixedSizeList,
               arrow::CreateFixedSizeList(b, static_cast<int32_t>(table.context)), {value});
}

/// 0, step, ..., count * step: where the lists of a column begin.
std::vector<int32_t> offsets(int64_t count, int64_t step) {
  std::vector<int32_t> result;
  for (int64_t i = 0; i <= count; ++i) result.push_back(static_cast<int32_t>(i * step));
  return result;
}

/// The body of a record batch: descriptions first, then the bytes.
class Body {
 public:
  void node(int64_t length) { nodes_.emplace_back(length, 0); }
  /// Columns without nulls have an empty bitmap of them.
  void no_nulls() { buffers_.emplace_back(size_, 0); }
  void buffer(std::span<const std::byte> bytes) {
    buffers_.emplace_back(size_, std::ssize(bytes));
    bytes_.push_back(bytes);
    size_ += padded(std::ssize(bytes));
  }

  void write(io::ByteSink& out, int64_t rows) const {
    FlatBufferBuilder b;
    const auto batch = arrow::CreateRecordBatch(b, rows, b.CreateVectorOfStructs(nodes_),
                                                b.CreateVectorOfStructs(buffers_));
    b.Finish(arrow::CreateMessage(b, arrow::MetadataVersion_V5, arrow::MessageHeader_RecordBatch,
                                  batch.Union(), size_));
    write_message(out, b);
    for (const auto bytes : bytes_) {
      out.write(bytes);
      const int64_t rest = padded(std::ssize(bytes)) - std::ssize(bytes);
      out.write(std::span(kZeros).first(static_cast<size_t>(rest)));
    }
  }

 private:
  std::vector<arrow::FieldNode> nodes_;
  std::vector<arrow::Buffer> buffers_;
  std::vector<std::span<const std::byte>> bytes_;
  int64_t size_ = 0;
};

std::span<const std::byte> bytes_of(const HostTensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data()), static_cast<size_t>(tensor.bytes())};
}

}  // namespace

ArrowStreamWriter::ArrowStreamWriter(io::ByteSink& out, ArrowTable table)
    : out_(out), table_(std::move(table)) {
  ESPALIER_CHECK(table_.dtype == DType::f32 || table_.dtype == DType::f16, ErrorKind::unsupported,
                 "arrow", "Arrow has no {}: choose float32 or float16", name(table_.dtype));
  FlatBufferBuilder b;
  std::vector<Offset<arrow::Field>> fields;
  for (const std::string& name : table_.matrices) fields.push_back(matrix_field(b, name, table_));
  fields.push_back(ids_field(b, table_));
  auto metadata = pairs(b, table_.metadata);
  const auto schema = arrow::CreateSchemaDirect(b, arrow::Endianness_Little, &fields, &metadata);
  b.Finish(arrow::CreateMessage(b, arrow::MetadataVersion_V5, arrow::MessageHeader_Schema,
                                schema.Union(), 0));
  write_message(out_, b);
}

void ArrowStreamWriter::write(std::span<const HostTensor> matrices, const HostTensor& ids) {
  const int64_t tokens = ids.numel(), rows = tokens / table_.context;
  ESPALIER_ASSERT(rows * table_.context == tokens && ids.dtype() == DType::i32 &&
                  matrices.size() == table_.matrices.size());
  const std::vector<int32_t> of_rows = offsets(rows, table_.context);
  const std::vector<int32_t> of_tokens = offsets(tokens, table_.width);
  ESPALIER_ASSERT(tokens * table_.width <= INT32_MAX);
  Body body;
  for (const HostTensor& matrix : matrices) {
    ESPALIER_ASSERT(matrix.dtype() == table_.dtype && matrix.numel() == tokens * table_.width);
    for (const auto& [length, begins] : {std::pair{rows, &of_rows}, {tokens, &of_tokens}}) {
      body.node(length);
      body.no_nulls();
      body.buffer(std::as_bytes(std::span(*begins)));
    }
    body.node(matrix.numel());
    body.no_nulls();
    body.buffer(bytes_of(matrix));
  }
  body.node(rows);
  body.no_nulls();
  body.node(tokens);
  body.no_nulls();
  body.buffer(bytes_of(ids));
  body.write(out_, rows);
}

void ArrowStreamWriter::finish() {
  constexpr std::array<uint32_t, 2> kEnd{0xFFFFFFFF, 0};
  out_.write(std::as_bytes(std::span(kEnd)));
}

}  // namespace espalier::extract
