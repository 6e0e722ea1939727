// SPDX-License-Identifier: Apache-2.0
// Arrow's streaming format, for tables of this shape: each row has some matrices [context, width]
// of one float type, and the ids of their `context` tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "espalier/io/byte_sink.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::extract {

struct ArrowTable {
  std::vector<std::string> matrices;  // names of columns
  std::string ids;                    // name of the last column
  int64_t context = 0, width = 0;
  DType dtype = DType::f32;  // or f16: the format has no bf16
  /// Key and value, of the schema and of each column of matrices.
  std::vector<std::pair<std::string, std::string>> metadata, matrix_metadata;

  /// Of a row, without offsets.
  int64_t row_bytes() const {
    return context * (std::ssize(matrices) * width * size_of(dtype) + int64_t{sizeof(int32_t)});
  }
};

class ArrowStreamWriter {
 public:
  /// Writes the schema. Throws `unsupported` for other types.
  ArrowStreamWriter(io::ByteSink& out, ArrowTable table);
  /// Some rows: by column [rows * context, width] of the table's dtype, and [rows * context] i32.
  void write(std::span<const HostTensor> matrices, const HostTensor& ids);
  /// The mark that ends a stream.
  void finish();

 private:
  io::ByteSink& out_;
  ArrowTable table_;
};

}  // namespace espalier::extract
