// SPDX-License-Identifier: Apache-2.0
#include "espalier/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "espalier/base/text.h"
#include "espalier/io/safetensors_header.h"

namespace espalier::io {
namespace {
constexpr std::string_view kStage = "safetensors";
constexpr int64_t kLengthBytes = 8;
static_assert(std::endian::native == std::endian::little, "the format is little endian");
}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path, {.stage = std::string(kStage)});
  const auto image = mapped->bytes();
  return parse(image, path.string(), std::move(mapped));
}

SafetensorsFile SafetensorsFile::parse(std::span<std::byte> image, std::string label,
                                       std::shared_ptr<void> owner) {
  const auto size = static_cast<int64_t>(image.size());
  ESPALIER_CHECK(size >= kLengthBytes, ErrorKind::data, kStage,
                 "{} bytes; a file begins with 8 bytes of header length, at {}", size, label);
  uint64_t length = 0;
  std::memcpy(&length, image.data(), sizeof(length));
  ESPALIER_CHECK(length <= static_cast<uint64_t>(kSafetensorsHeaderLimit), ErrorKind::data, kStage,
                 "header length {} is above the limit of {} bytes; this may not be a safetensors "
                 "file, at {}",
                 length, kSafetensorsHeaderLimit, label);
  const auto header_bytes = static_cast<int64_t>(length);
  ESPALIER_CHECK(header_bytes <= size - kLengthBytes, ErrorKind::data, kStage,
                 "header length {}, but only {} bytes follow; the file may be cut short, at {}",
                 header_bytes, size - kLengthBytes, label);
  const std::string_view text(reinterpret_cast<const char*>(image.data()) + kLengthBytes,
                              static_cast<size_t>(header_bytes));
  auto header = parse_safetensors_header(text, label, size - kLengthBytes - header_bytes);

  SafetensorsFile file;
  file.label_ = std::move(label);
  file.owner_ = std::move(owner);
  file.data_ = image.subspan(static_cast<size_t>(kLengthBytes + header_bytes));
  file.entries_ = std::move(header.entries);
  file.metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < file.entries_.size(); ++i) file.index_[file.entries_[i].name] = i;
  return file;
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  if (const auto found = index_.find(name); found != index_.end()) return entries_[found->second];
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : entries_) names.push_back(entry.name);
  fail(ErrorKind::data, kStage, "no tensor {} among the {} of {}{}", name, names.size(), label_,
       nearest_hint(name, names));
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return data_.subspan(static_cast<size_t>(entry.begin),
                       static_cast<size_t>(entry.end - entry.begin));
}

HostTensor SafetensorsFile::tensor(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  const auto dtype = dtype_from_safetensors(entry.dtype);
  ESPALIER_CHECK(dtype.has_value(), ErrorKind::unsupported, kStage,
                 "{} {} cannot be computed with, at {}:{}; convert it to F32, BF16, F16, F64, I32, "
                 "I64, U8 or BOOL",
                 entry.dtype, entry.shape.str(), label_, name);
  std::byte* data = data_.data() + entry.begin;
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(*dtype)) == 0) {
    return HostTensor(*dtype, entry.shape, data, owner_);
  }
  HostTensor copy(*dtype, entry.shape);
  std::memcpy(copy.data(), data, static_cast<size_t>(copy.bytes()));
  return copy;
}

HostTensor SafetensorsFile::tensor(std::string_view name, DType dtype, const Shape& shape) const {
  const SafetensorsEntry& entry = at(name);
  ESPALIER_CHECK(entry.dtype == safetensors_name(dtype) && entry.shape == shape, ErrorKind::data,
                 kStage, "{} {} where {} {} is expected, at {}:{}", entry.dtype, entry.shape.str(),
                 safetensors_name(dtype), shape.str(), label_, name);
  return tensor(name);
}

std::map<std::string, HostTensor> SafetensorsFile::tensors() const {
  std::map<std::string, HostTensor> all;
  for (const SafetensorsEntry& entry : entries_) all.emplace(entry.name, tensor(entry.name));
  return all;
}

}  // namespace espalier::io
