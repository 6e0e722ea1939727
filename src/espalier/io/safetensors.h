// SPDX-License-Identifier: Apache-2.0
// safetensors: 8 bytes of header length (little endian), a JSON header, then the bytes of all
// tensors without holes. Format: https://github.com/huggingface/safetensors#format
//
// The reader maps the file and checks everything the format promises before it hands out a byte;
// each broken promise is a `data` error that names file:tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/io/file.h"
#include "espalier/tensor/host_tensor.h"

namespace espalier::io {

using SafetensorsMetadata = std::map<std::string, std::string>;

/// The largest header that is read or written, as in the reference implementation.
inline constexpr int64_t kSafetensorsHeaderLimit = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as in the file: "F32", "BF16", "F8_E4M3", ...
  Shape shape;
  int64_t begin = 0;  // bytes, relative to the end of the header
  int64_t end = 0;
};

/// The dtype of the library for a name in a file; nothing when the library has no such dtype.
std::optional<DType> dtype_from_safetensors(std::string_view name);
std::string_view safetensors_name(DType dtype);

class SafetensorsFile {
 public:
  /// Maps and checks `path`.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// Checks a file image in memory that `owner` keeps alive; `label` names it in messages.
  static SafetensorsFile parse(std::span<std::byte> image, std::string label,
                               std::shared_ptr<void> owner);

  /// In the order of their bytes.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  const std::string& label() const { return label_; }

  bool contains(std::string_view name) const { return index_.contains(name); }
  /// The entry, or a `data` error that names the nearest tensor.
  const SafetensorsEntry& at(std::string_view name) const;
  /// Raw bytes, for dtypes the library does not compute with.
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;

  /// A view of the file's pages, which it keeps alive; writing to it does not reach the file. A
  /// tensor that is not aligned for its dtype is copied. Throws `unsupported` for dtypes such as
  /// F8_E4M3.
  HostTensor tensor(std::string_view name) const;
  /// The same, with a `data` error unless dtype and shape are these.
  HostTensor tensor(std::string_view name, DType dtype, const Shape& shape) const;
  std::map<std::string, HostTensor> tensors() const;

 private:
  SafetensorsFile() = default;
  std::string label_;
  std::shared_ptr<void> owner_;
  std::span<std::byte> data_;  // what follows the header
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
  SafetensorsMetadata metadata_;
};

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
};

/// Writes tensors whose bytes arrive in pieces, so that none needs a second copy in memory.
class SafetensorsWriter {
 public:
  /// Writes the header. Equal tensors and metadata give equal bytes whatever their order. The
  /// default metadata is what `transformers` asks for.
  SafetensorsWriter(ByteSink& out, std::vector<SafetensorsSpec> tensors,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});

  /// The order in which bytes must come: wide dtypes first (all stay aligned), then by name.
  const std::vector<SafetensorsSpec>& order() const { return tensors_; }
  /// The next bytes of tensor `name`, which must be the one whose turn it is.
  void write(std::string_view name, std::span<const std::byte> bytes);
  /// Checks that every tensor is complete.
  void finish();

 private:
  void skip_complete();
  ByteSink& out_;
  std::vector<SafetensorsSpec> tensors_;
  size_t current_ = 0;
  int64_t missing_ = 0;  // bytes of the current tensor that are still to come
};

/// Writes all of `tensors` in one go.
void write_safetensors(ByteSink& out, const std::map<std::string, HostTensor>& tensors,
                       const SafetensorsMetadata& metadata = {{"format", "pt"}});

/// The same as a file that appears whole or not at all.
void save_safetensors(const std::filesystem::path& path,
                      const std::map<std::string, HostTensor>& tensors,
                      const SafetensorsMetadata& metadata = {{"format", "pt"}});

}  // namespace espalier::io
