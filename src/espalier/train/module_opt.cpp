// SPDX-License-Identifier: Apache-2.0
#include "espalier/train/module_opt.h"

#include <map>

#include "espalier/io/atomic.h"
#include "espalier/io/json.h"
#include "espalier/io/safetensors.h"

namespace espalier::train {

std::vector<ShardSpec> shard_specs(const std::vector<std::pair<std::string, nn::Param>>& params,
                                   const Optimizer& optimizer, const shard::Mesh& mesh,
                                   int64_t rank) {
  std::vector<ShardSpec> specs;
  specs.reserve(params.size());
  for (const auto& [path, p] : params) {
    specs.push_back({.name = nn::input_name(path),
                     .path = path,
                     .whole = p.shape,
                     .local = p.placement.spec.local_shape(p.shape, mesh),
                     .region = shard::region_of(p.shape, p.placement.spec, mesh, rank),
                     .spec = p.placement.spec,
                     .dtype = p.dtype,
                     .init = p.init});
  }
  const std::vector<std::string> prefixes = moment_prefixes(optimizer);
  for (size_t i = 0; i < params.size(); ++i) {
    if (!params[i].second.trainable) continue;
    for (const std::string& prefix : prefixes) {
      ShardSpec moment = specs[i];
      moment.name = prefix + params[i].first;
      moment.dtype = DType::f32;
      moment.init = nn::Init::zeros();
      specs.push_back(std::move(moment));
    }
  }
  return specs;
}

std::vector<std::pair<std::string, nn::Param>> abstract_params(
    const std::vector<nn::LeafEntry>& leaves) {
  std::vector<std::pair<std::string, nn::Param>> params;
  params.reserve(leaves.size());
  for (const auto& [path, leaf] : leaves) {
    nn::Param& copy = params.emplace_back(path, *leaf).second;
    copy.data = HostTensor();
    copy.bound = Tensor();
  }
  return params;
}

HostTensor make_shard(const ShardSpec& spec, uint64_t seed) {
  HostTensor tensor(spec.dtype, spec.local);  // zero-filled
  if (spec.init.kind != nn::Init::Kind::zeros) {
    nn::fill(spec.init, seed, spec.path, spec.region, tensor);
  }
  return tensor;
}

void save_shards(const std::filesystem::path& path, const std::vector<ShardSpec>& specs,
                 const shard::Mesh& mesh, int64_t rank, uint64_t seed) {
  std::vector<io::SafetensorsSpec> tensors;
  std::map<std::string, const ShardSpec*> by_name;
  io::SafetensorsMetadata metadata{{"format", "pt"},
                                   {"mesh", mesh.str()},
                                   {"rank", std::to_string(rank)},
                                   {"seed", std::to_string(seed)}};
  for (const ShardSpec& spec : specs) {
    tensors.push_back({spec.name, spec.dtype, spec.local});
    by_name.emplace(spec.name, &spec);
    const nlohmann::ordered_json place{{"shape", spec.whole.dims()},
                                       {"view", spec.region.view.dims()},
                                       {"first", spec.region.first},
                                       {"spec", spec.spec.str(spec.whole.rank())}};
    metadata.emplace("shard." + spec.name, place.dump());
  }
  io::AtomicFile file(path, {.stage = "shards"});
  io::SafetensorsWriter writer(file.out(), std::move(tensors), metadata);
  for (const io::SafetensorsSpec& next : writer.order()) {
    const HostTensor shard = make_shard(*by_name.at(next.name), seed);
    writer.write(next.name,
                 {static_cast<const std::byte*>(shard.data()), static_cast<size_t>(shard.bytes())});
  }
  writer.finish();
  file.commit();
}

}  // namespace espalier::train
