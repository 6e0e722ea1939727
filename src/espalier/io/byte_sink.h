// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace espalier::io {

/// What takes bytes one after the other: a file, an upload, a checksum before either.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void write(std::span<const std::byte> bytes) = 0;
  /// A path or URL, for messages.
  virtual std::string label() const = 0;

  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
};

}  // namespace espalier::io
