// SPDX-License-Identifier: Apache-2.0
#include "espalier/shard/cost.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "espalier/base/error.h"
#include "espalier/base/text.h"

namespace espalier::shard {
namespace {

constexpr double kF32 = 4.0;

class Estimate {
 public:
  Estimate(const std::vector<CostParam>& params, const Mesh& mesh, const Device& device,
           const CostOptions& options)
      : params_(params), mesh_(mesh), device_(device), options_(options) {
    for (const CostParam& p : params) by_path_.emplace(p.path, &p);
    for (const MeshAxis& axis : mesh.axes()) {
      const auto& model = options.model_axes;
      const bool cuts_work = std::find(model.begin(), model.end(), axis.name) != model.end();
      if (cuts_work) continue;
      data_axes_.push_back(axis.name);
      data_devices_ *= axis.size;
    }
    ESPALIER_CHECK(options.batch > 0 && options.batch % data_devices_ == 0, ErrorKind::user, "plan",
                   "a batch of {} samples cannot be dealt out to {} groups of devices ({})",
                   options.batch, data_devices_, mesh.str());
    cost_.local_batch = options.batch / data_devices_;
  }

  Cost run(const Workload& work) {
    parameters();
    for (const Product& p : work.products) product(p, work);
    for (const Follows& f : work.attention) cost_.flops += samples() * f.amount / pieces(f.weight);
    double kept = 0.0;
    for (const Follows& f : work.activations) kept += samples() * f.amount / pieces(f.weight);
    cost_.activation_bytes = kept * element_bytes();
    // Written once, read by the forward and by the backward pass.
    cost_.moved_bytes += 3.0 * cost_.activation_bytes;
    finish();
    return std::move(cost_);
  }

 private:
  double samples() const { return static_cast<double>(cost_.local_batch); }
  double element_bytes() const { return static_cast<double>(size_of(options_.compute_dtype)); }
  bool is_data(std::string_view axis) const {
    return std::find(data_axes_.begin(), data_axes_.end(), axis) != data_axes_.end();
  }

  const CostParam& at(const std::string& path) const {
    const auto found = by_path_.find(path);
    if (found == by_path_.end()) {
      std::vector<std::string> paths;
      for (const CostParam& p : params_) paths.push_back(p.path);
      fail(ErrorKind::user, "plan", "the workload names {}, which is no parameter{}", path,
           nearest_hint(path, paths));
    }
    return *found->second;
  }

  /// Into how many parts the axes that are not for samples cut a parameter, or one dimension.
  double pieces(const std::string& path, int64_t dim = -1) const {
    if (path.empty()) return 1.0;
    int64_t count = 1;
    for (const PartitionSpec::Cut& c : at(path).spec.cuts()) {
      if (!is_data(c.axis) && (dim < 0 || c.dim == dim)) count *= mesh_.size(c.axis);
    }
    return static_cast<double>(count);
  }

  /// Adds one collective over an axis; equal ones are counted together.
  void collect(CollectiveKind kind, const std::string& axis, std::string_view what, double bytes,
               bool blocking, double messages = 1.0) {
    const auto n = static_cast<double>(mesh_.size(axis));
    if (n <= 1.0 || bytes <= 0.0) return;
    Collective* same = nullptr;
    for (Collective& c : cost_.collectives) {
      if (c.kind == kind && c.axis == axis && c.what == what) same = &c;
    }
    if (same == nullptr) {
      same = &cost_.collectives.emplace_back(
          Collective{.kind = kind, .axis = axis, .what = std::string(what), .blocking = blocking});
    }
    const double rounds = kind == CollectiveKind::all_reduce ? 2.0 : 1.0;
    const double sent = rounds * (n - 1.0) / n * bytes;
    same->count += static_cast<int64_t>(messages);
    same->bytes += bytes;
    same->sent_bytes += sent;
    same->seconds +=
        sent / device_.link_bandwidth + messages * rounds * (n - 1.0) * device_.link_latency;
  }

  /// Bytes of parameters, and what is summed and gathered for each block of them.
  void parameters() {
    struct Block {
      std::map<std::string, double> gathered, summed;  // by axis
      double whole = 0.0;
    };
    std::map<std::string_view, Block> blocks;
    for (const CostParam& p : params_) {
      const double local = static_cast<double>(p.spec.local_shape(p.shape, mesh_).numel());
      cost_.parameters += p.shape.numel();
      cost_.parameter_bytes += local * static_cast<double>(size_of(p.dtype));
      if (p.trainable) {
        cost_.gradient_bytes += local * kF32;
        cost_.moment_bytes += local * kF32 * static_cast<double>(options_.moments);
        // The update reads parameter, gradient and moments, and writes all but the gradient.
        cost_.moved_bytes += local * kF32 * (3.0 + 2.0 * static_cast<double>(options_.moments));
      }
      Block& block = blocks[block_of(p.path)];
      double put_together = local;
      bool gathered = false;
      for (size_t i = p.spec.cuts().size(); i-- > 0;) {
        const PartitionSpec::Cut& c = p.spec.cuts()[i];
        if (!is_data(c.axis)) continue;
        put_together *= static_cast<double>(mesh_.size(c.axis));
        block.gathered[c.axis] += put_together * element_bytes();
        // Gradients are summed in f32.
        if (p.trainable) block.summed[c.axis] += put_together * kF32;
        gathered = gathered || mesh_.size(c.axis) > 1;
      }
      if (gathered) block.whole += put_together * element_bytes();
      // Read by the forward and by the backward pass, and the gradient is written.
      cost_.moved_bytes += put_together * (2.0 * element_bytes() + (p.trainable ? kF32 : 0.0));
      if (!p.trainable) continue;
      for (const std::string& axis : data_axes_) {
        if (p.spec.dim_of(axis) < 0) whole_gradients_[axis][block_of(p.path)] += local * kF32;
      }
    }
    for (const auto& [name, block] : blocks) {
      cost_.gathered_bytes = std::max(cost_.gathered_bytes, block.whole);
      for (const auto& [axis, bytes] : block.gathered) {
        collect(CollectiveKind::all_gather, axis, "parameters, forward", bytes, false);
        collect(CollectiveKind::all_gather, axis, "parameters, backward", bytes, false);
      }
      for (const auto& [axis, bytes] : block.summed) {
        collect(CollectiveKind::reduce_scatter, axis, "gradients", bytes, false);
      }
    }
    for (const auto& [axis, by_block] : whole_gradients_) {
      for (const auto& [block, bytes] : by_block) {
        collect(CollectiveKind::all_reduce, axis, "gradients", bytes, false);
      }
    }
  }

  void product(const Product& p, const Workload& work) {
    const CostParam& weight = at(p.weight);
    ESPALIER_ASSERT(weight.shape.rank() == 2);
    const double rows = samples() * p.rows;
    const auto out = static_cast<double>(weight.shape[0]),
               in = static_cast<double>(weight.shape[1]);
    if (!p.lookup) {
      // Two FLOP forward, two for the input's gradient, two for the weight's.
      cost_.flops += (weight.trainable ? 6.0 : 4.0) * rows * out * in / pieces(p.weight);
    }
    for (const PartitionSpec::Cut& c : weight.spec.cuts()) {
      if (is_data(c.axis)) continue;
      const double bytes = rows * element_bytes();
      if (p.lookup) {
        // A table [rows, width]: cut rows leave zeros to be summed, a cut width parts to be joined.
        collect(c.dim == 0 ? CollectiveKind::all_reduce : CollectiveKind::all_gather, c.axis,
                "activations, forward", bytes * in, true);
        continue;
      }
      if (c.dim == 1) {
        collect(CollectiveKind::all_reduce, c.axis, "activations, forward",
                bytes * out / pieces(p.weight, 0), true);
        if (!made_in_parts(p, c.axis, work)) {
          collect(CollectiveKind::all_gather, c.axis, "activations, backward", bytes * in, true);
        }
        continue;
      }
      if (summed_inputs_.emplace(p.input, c.axis).second) {
        collect(CollectiveKind::all_reduce, c.axis, "activations, backward",
                bytes * in / pieces(p.weight, 1), true);
      }
      if (p.consumer == Product::kLoss) {
        // The largest logit and the sum of exponentials of each row, and the target's logit.
        collect(CollectiveKind::all_reduce, c.axis, "loss", rows * 3.0 * kF32, true, 3.0);
      } else if (p.consumer.empty() || at(p.consumer).spec.dim_of(c.axis) != 1) {
        collect(CollectiveKind::all_gather, c.axis, "activations, forward", bytes * out, true);
      }
    }
  }

  /// Whether what this product reads is made by products that `axis` cuts the same way.
  bool made_in_parts(const Product& p, std::string_view axis, const Workload& work) const {
    bool any = false;
    for (const Product& maker : work.products) {
      if (maker.consumer != p.weight) continue;
      any = true;
      if (at(maker.weight).spec.dim_of(axis) != 0) return false;
    }
    return any;
  }

  void finish() {
    cost_.compute_seconds = cost_.flops / device_.flops(options_.compute_dtype);
    cost_.memory_seconds = cost_.moved_bytes / device_.memory_bandwidth;
    double hidden = 0.0, blocking = 0.0;
    for (const Collective& c : cost_.collectives) (c.blocking ? blocking : hidden) += c.seconds;
    cost_.network_seconds = hidden + blocking;
    cost_.step_seconds = std::max({cost_.compute_seconds, cost_.memory_seconds, hidden}) + blocking;
    const double most =
        std::max({cost_.compute_seconds, cost_.memory_seconds, cost_.network_seconds});
    cost_.limit = most == cost_.compute_seconds  ? Limit::compute
                  : most == cost_.memory_seconds ? Limit::memory
                                                 : Limit::network;
    cost_.fits = cost_.total_bytes() <= device_.memory_bytes;
  }

  const std::vector<CostParam>& params_;
  const Mesh& mesh_;
  const Device& device_;
  const CostOptions& options_;
  std::unordered_map<std::string, const CostParam*> by_path_;
  std::vector<std::string> data_axes_;
  int64_t data_devices_ = 1;
  std::map<std::string, std::map<std::string_view, double>> whole_gradients_;
  std::set<std::pair<int32_t, std::string>> summed_inputs_;
  Cost cost_;
};

}  // namespace

std::string_view name(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::all_reduce:
      return "all-reduce";
    case CollectiveKind::all_gather:
      return "all-gather";
    case CollectiveKind::reduce_scatter:
      break;
  }
  return "reduce-scatter";
}

std::string_view name(Limit limit) {
  switch (limit) {
    case Limit::compute:
      return "compute";
    case Limit::memory:
      return "memory";
    case Limit::network:
      break;
  }
  return "network";
}

std::string_view block_of(std::string_view path) {
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (!part.empty() &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return path.substr(0, end);
    }
    begin = end + 1;
  }
  return {};
}

Cost estimate(const std::vector<CostParam>& params, const Workload& work, const Mesh& mesh,
              const Device& device, const CostOptions& options) {
  return Estimate(params, mesh, device, options).run(work);
}

}  // namespace espalier::shard
