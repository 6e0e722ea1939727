// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "espalier/base/checked.h"
#include "espalier/io/atomic.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"

namespace espalier::io {
namespace {
constexpr std::string_view kStage = "safetensors";

int64_t bytes_of(const SafetensorsSpec& tensor) {
  return checked_mul(tensor.shape.numel(), size_of(tensor.dtype),
                     {ErrorKind::user, kStage, "bytes of " + tensor.name});
}

/// A JSON string; names that are not UTF-8 have none.
std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::user, kStage, "a name or metadata text is not UTF-8: {}",
         nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

std::string header_text(const std::vector<SafetensorsSpec>& tensors,
                        const SafetensorsMetadata& metadata) {
  std::string text = "{";
  const char* comma = "";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      text += fmt::format("{}{}:{}", comma, quoted(key), quoted(value));
      comma = ",";
    }
    text += "}";
  }
  int64_t position = 0;
  for (const SafetensorsSpec& tensor : tensors) {
    const int64_t end = checked_add(position, bytes_of(tensor), {ErrorKind::user, kStage, "file"});
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", comma,
                        quoted(tensor.name), safetensors_name(tensor.dtype), tensor.shape.str(),
                        position, end);
    comma = ",";
    position = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins at a multiple of 8
  return text;
}
}  // namespace

SafetensorsWriter::SafetensorsWriter(ByteSink& out, std::vector<SafetensorsSpec> tensors,
                                     const SafetensorsMetadata& metadata)
    : out_(out), tensors_(std::move(tensors)) {
  std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
    return std::tuple(-size_of(a.dtype), std::string_view(a.name)) <
           std::tuple(-size_of(b.dtype), std::string_view(b.name));
  });
  std::map<std::string_view, int> count;
  for (const SafetensorsSpec& tensor : tensors_) {
    ESPALIER_CHECK(tensor.name != "__metadata__", ErrorKind::user, kStage,
                   "a tensor cannot be named __metadata__, at {}", out_.label());
    ESPALIER_CHECK(++count[tensor.name] == 1, ErrorKind::user, kStage,
                   "tensor {} appears twice, at {}", tensor.name, out_.label());
  }
  const std::string header = header_text(tensors_, metadata);
  ESPALIER_CHECK(std::cmp_less_equal(header.size(), kSafetensorsHeaderLimit), ErrorKind::user,
                 kStage, "{} tensors need a header of {} bytes, the limit is {}, at {}",
                 tensors_.size(), header.size(), kSafetensorsHeaderLimit, out_.label());
  std::string start(sizeof(uint64_t), '\0');
  for (size_t i = 0; i < start.size(); ++i) start[i] = static_cast<char>(header.size() >> (8 * i));
  out_.write(start + header);
  if (!tensors_.empty()) missing_ = bytes_of(tensors_[0]);
  skip_complete();
}

void SafetensorsWriter::skip_complete() {
  while (current_ < tensors_.size() && missing_ == 0) {
    if (++current_ < tensors_.size()) missing_ = bytes_of(tensors_[current_]);
  }
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const auto turn = current_ < tensors_.size() ? std::string_view(tensors_[current_].name) : "none";
  ESPALIER_CHECK(name == turn, ErrorKind::internal, kStage,
                 "bytes of {} come when it is the turn of {}, at {}", name, turn, out_.label());
  ESPALIER_CHECK(std::cmp_less_equal(bytes.size(), missing_), ErrorKind::internal, kStage,
                 "{} bytes of {} where {} are missing, at {}", bytes.size(), name, missing_,
                 out_.label());
  out_.write(bytes);
  missing_ -= static_cast<int64_t>(bytes.size());
  skip_complete();
}

void SafetensorsWriter::finish() {
  ESPALIER_CHECK(current_ == tensors_.size(), ErrorKind::internal, kStage,
                 "{} bytes of {} never came, at {}", missing_, tensors_[current_].name,
                 out_.label());
}

void write_safetensors(ByteSink& out, const std::map<std::string, HostTensor>& tensors,
                       const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsSpec> specs;
  specs.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors)
    specs.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(out, std::move(specs), metadata);
  for (const SafetensorsSpec& spec : writer.order()) {
    const HostTensor& tensor = tensors.at(spec.name);
    writer.write(spec.name, {static_cast<const std::byte*>(tensor.data()),
                             static_cast<size_t>(tensor.bytes())});
  }
  writer.finish();
}

void save_safetensors(const std::filesystem::path& path,
                      const std::map<std::string, HostTensor>& tensors,
                      const SafetensorsMetadata& metadata) {
  AtomicFile file(path, {.stage = std::string(kStage)});
  write_safetensors(file.out(), tensors, metadata);
  file.commit();
}

}  // namespace espalier::io
