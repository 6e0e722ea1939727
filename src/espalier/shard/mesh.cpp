// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/mesh.h"

#include <charconv>

#include "espalier/base/checked.h"
#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::shard {

Mesh::Mesh(std::vector<MeshAxis> axes) : axes_(std::move(axes)) {
  for (size_t i = 0; i < axes_.size(); ++i) {
    const MeshAxis& axis = axes_[i];
    ESPALIER_CHECK(!axis.name.empty(), ErrorKind::user, "mesh", "axis {} has no name", i);
    ESPALIER_CHECK(axis.size >= 1, ErrorKind::user, "mesh",
                   "axis {} has {} devices; it needs at least 1", axis.name, axis.size);
    for (size_t j = 0; j < i; ++j) {
      ESPALIER_CHECK(axes_[j].name != axis.name, ErrorKind::user, "mesh",
                     "axis {} comes twice in {}", axis.name, str());
    }
    devices_ = checked_mul(devices_, axis.size, {.stage = "mesh", .what = "number of devices"});
  }
}

Mesh Mesh::parse(std::string_view text) {
  std::vector<MeshAxis> axes;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = part.find('=');
    int64_t size = 0;
    bool good = equals != std::string_view::npos && equals > 0;
    if (good) {
      const char* end = part.data() + part.size();
      const auto [stop, error] = std::from_chars(part.data() + equals + 1, end, size);
      good = error == std::errc() && stop == end;
    }
    ESPALIER_CHECK(good, ErrorKind::user, "mesh",
                   "\"{}\" is not AXIS=SIZE; a mesh is written as data=8,model=4", part);
    axes.push_back({std::string(part.substr(0, equals)), size});
  }
  return Mesh(std::move(axes));
}

const MeshAxis* Mesh::find(std::string_view axis) const {
  for (const MeshAxis& a : axes_) {
    if (a.name == axis) return &a;
  }
  return nullptr;
}

bool Mesh::has(std::string_view axis) const { return find(axis) != nullptr; }

int64_t Mesh::size(std::string_view axis) const {
  const MeshAxis* found = find(axis);
  if (found == nullptr) {
    std::vector<std::string> names;
    for (const MeshAxis& a : axes_) names.push_back(a.name);
    fail(ErrorKind::user, "mesh", "the mesh {} has no axis {}{}",
         axes_.empty() ? "of one device" : str(), axis, nearest_hint(axis, names));
  }
  return found->size;
}

int64_t Mesh::coordinate(int64_t rank, std::string_view axis) const {
  check_rank(rank);
  const int64_t along = size(axis);
  int64_t stride = 1;
  for (size_t i = axes_.size(); i-- > 0 && axes_[i].name != axis;) stride *= axes_[i].size;
  return rank / stride % along;
}

void Mesh::check_rank(int64_t rank) const {
  ESPALIER_CHECK(rank >= 0 && rank < devices_, ErrorKind::user, "mesh",
                 "rank {} is outside the mesh {} of {} devices, ranks 0 to {}", rank, str(),
                 devices_, devices_ - 1);
}

void Mesh::check_devices(int64_t available) const {
  ESPALIER_CHECK(devices_ <= available, ErrorKind::user, "mesh",
                 "the mesh {} needs {} devices, there {} {}", str(), devices_,
                 available == 1 ? "is" : "are", available);
}

std::string Mesh::str() const {
  std::string text;
  for (const MeshAxis& axis : axes_) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", axis.name, axis.size);
  }
  return text;
}

namespace {
void factorize(int64_t devices, const std::vector<std::string>& axes, std::vector<MeshAxis>& chosen,
               std::vector<Mesh>& found) {
  const std::string& name = axes[chosen.size()];
  if (chosen.size() + 1 == axes.size()) {
    chosen.push_back({name, devices});
    found.emplace_back(chosen);
    chosen.pop_back();
    return;
  }
  for (int64_t size = devices; size >= 1; --size) {
    if (devices % size != 0) continue;
    chosen.push_back({name, size});
    factorize(devices / size, axes, chosen, found);
    chosen.pop_back();
  }
}
}  // namespace

std::vector<Mesh> factorizations(int64_t devices, const std::vector<std::string>& axes) {
  ESPALIER_CHECK(devices >= 1 && devices <= 1'000'000, ErrorKind::user, "mesh",
                 "a sweep is over 1 to 1000000 devices, got {}", devices);
  ESPALIER_CHECK(!axes.empty(), ErrorKind::user, "mesh", "a sweep needs the names of axes");
  std::vector<MeshAxis> chosen;
  std::vector<Mesh> found;
  factorize(devices, axes, chosen, found);
  return found;
}

}  // namespace espalier::shard
