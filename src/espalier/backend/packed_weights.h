// SPDX-License-Identifier: Apache-2.0
// Weights laid out for kernels: once, for all programs that are compiled with the same object
// (compile in executable.h). What is kept under a key is a function of the key and the values.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "espalier/tensor/host_tensor.h"

namespace espalier {

class PackedWeights {
 public:
  /// Called when the values of a graph input have been laid out and are not read again by the
  /// kernel that did it; from any thread, also from several at a time.
  using Done = std::function<void(std::string_view input)>;
  explicit PackedWeights(Done done = {}) : done_(std::move(done)) {}

  /// What an earlier process laid out, by key. Keys that are there already stay.
  void adopt(const std::map<std::string, HostTensor>& ready);
  /// Everything, by key, as u8; `adopt` takes it.
  std::map<std::string, HostTensor> all() const;
  int64_t bytes() const;

  // For executables, which do not run at the same time.

  /// Makes room for the keys that are not there, in one block, and says where they all are.
  struct Place {
    std::byte* data;
    bool ready;  // holds the values
  };
  std::map<std::string, Place> places(const std::map<std::string, int64_t>& bytes);
  void set_ready(const std::string& key);
  void done(std::string_view input) const {
    if (done_) done_(input);
  }

 private:
  struct Kept {
    HostTensor memory;
    bool ready = false;
  };
  Done done_;
  std::map<std::string, Kept> kept_;
};

}  // namespace espalier
