// SPDX-License-Identifier: Apache-2.0
// A mesh: devices arranged along named axes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::shard {

struct MeshAxis {
  std::string name;
  int64_t size = 1;
  friend bool operator==(const MeshAxis&, const MeshAxis&) = default;
};

class Mesh {
 public:
  /// One device, no axis.
  Mesh() = default;
  /// Throws `user` for a size below 1, an empty name, or a name that comes twice.
  explicit Mesh(std::vector<MeshAxis> axes);
  /// "data=8,model=4"; throws `user` naming the part that cannot be read.
  static Mesh parse(std::string_view text);

  const std::vector<MeshAxis>& axes() const { return axes_; }
  int64_t devices() const { return devices_; }
  bool has(std::string_view axis) const;
  /// Devices along an axis; throws `user` with the nearest name.
  int64_t size(std::string_view axis) const;
  /// Place of a device along an axis. The last axis varies fastest with the rank.
  int64_t coordinate(int64_t rank, std::string_view axis) const;
  /// Throws `user` when the rank is outside the mesh.
  void check_rank(int64_t rank) const;
  /// Throws `user` when the mesh needs more devices than there are.
  void check_devices(int64_t available) const;
  /// "data=8,model=4"
  std::string str() const;

  friend bool operator==(const Mesh&, const Mesh&) = default;

 private:
  const MeshAxis* find(std::string_view axis) const;
  std::vector<MeshAxis> axes_;
  int64_t devices_ = 1;
};

/// All meshes of exactly `devices` devices over these axes, the first axis largest first.
std::vector<Mesh> factorizations(int64_t devices, const std::vector<std::string>& axes);

}  // namespace espalier::shard
