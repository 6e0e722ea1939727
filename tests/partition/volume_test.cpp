// SPDX-License-Identifier: Apache-2.0
// What partitioned steps communicate: the counts of the textbooks, and those of the cost model
// behind `espalier plan`.
#include <gmock/gmock.h>

#include "espalier/models/workload.h"
#include "tests/partition/mesh_case.h"

namespace espalier::testing {
namespace {

using passes::Communication;
using shard::CollectiveKind;

constexpr double kF32 = 4.0;

double parameter_bytes(const MeshCase& c,
                       const std::function<bool(const std::string&)>& wanted = nullptr) {
  double bytes = 0.0;
  for (const auto& [path, p] : c.params) {
    if (!wanted || wanted(path)) bytes += kF32 * static_cast<double>(p.shape.numel());
  }
  return bytes;
}

/// Bytes of positions beyond the sequence: they are cut off before the table is gathered.
constexpr double kUnusedPositions = kF32 * (8 - kSeq) * 16;

class Sent {
 public:
  explicit Sent(const MeshCase& c)
      : made(passes::partition(c.graph, c.options)), rows(passes::communication(made.graph)) {}

  const Communication& at(CollectiveKind kind, const std::string& axes,
                          const std::string& what) const {
    for (const Communication& c : rows) {
      if (c.kind == kind && c.axes == axes && c.what == what) return c;
    }
    static const Communication kNone{};
    ADD_FAILURE() << "no " << name(kind) << " over " << axes << ", " << what;
    return kNone;
  }

  passes::Partitioned made;
  std::vector<Communication> rows;
};

/// Loss and count of the labels, and the loss's sum once more as a metric: scalars only.
TEST(Volume, DataParallelReducesEveryGradientOnce) {
  const MeshCase c = bert_case({"data=4"}, {});
  const Sent sent(c);
  const Communication& gradients = sent.at(CollectiveKind::all_reduce, "data", "gradients");
  EXPECT_EQ(gradients.count, static_cast<int64_t>(c.params.size()));
  EXPECT_EQ(gradients.bytes, parameter_bytes(c));
  EXPECT_DOUBLE_EQ(gradients.sent_bytes, 2.0 * 3 / 4 * parameter_bytes(c));
  EXPECT_EQ(sent.at(CollectiveKind::all_reduce, "data", "scalars").count, 2);
  EXPECT_EQ(sent.rows.size(), 2u);
  EXPECT_EQ(sent.made.notes, std::vector<std::string>{});
}

/// What the backward pass reads: factors of products and norms, not what was only added or looked
/// up.
bool read_backward(const std::string& path) {
  return path.ends_with(".weight") && path.find("position") == std::string::npos &&
         path.find("token_type") == std::string::npos;
}

TEST(Volume, FullyShardedGathersEveryParameterTwiceAndScattersItsGradient) {
  MeshCase c = bert_case({"data=4", rules({"*=fully_shard(data, 1)"})}, {});
  const auto whole = [](const auto& p) { return p.second.placement.spec.replicated(); };
  // Two types of tokens and 16 of their numbers: the rest is divided by 4 too.
  EXPECT_EQ(std::count_if(c.params.begin(), c.params.end(), whole), 0);
  const Sent sent(c);
  const auto all = static_cast<int64_t>(c.params.size());
  const Communication& forward = sent.at(CollectiveKind::all_gather, "data", "parameters, forward");
  EXPECT_EQ(forward.count, all);
  EXPECT_EQ(forward.bytes, parameter_bytes(c) - kUnusedPositions);
  EXPECT_DOUBLE_EQ(forward.sent_bytes, 3.0 / 4 * (parameter_bytes(c) - kUnusedPositions));
  const Communication& backward =
      sent.at(CollectiveKind::all_gather, "data", "parameters, backward");
  EXPECT_EQ(backward.bytes, parameter_bytes(c, read_backward));
  const Communication& gradients = sent.at(CollectiveKind::reduce_scatter, "data", "gradients");
  EXPECT_EQ(gradients.count, all);
  EXPECT_EQ(gradients.bytes, parameter_bytes(c));
  // The two sums of the loss, and the norm of gradients that are in pieces.
  EXPECT_EQ(sent.at(CollectiveKind::all_reduce, "data", "scalars").count, 3);
  EXPECT_EQ(sent.rows.size(), 4u);
  EXPECT_EQ(sent.made.notes, std::vector<std::string>{});

  c.options.regather = false;
  const Sent kept(c);
  EXPECT_EQ(kept.at(CollectiveKind::all_gather, "data", "parameters, forward").count, all);
  EXPECT_EQ(kept.rows.size(), 3u);
}

/// Bytes of one activation of width 16.
constexpr double kActivation = kF32 * kBatch * kSeq * 16;

/// Of two layers of that width cut along "model", and nothing else but the norm.
void expect_two_sums_a_layer_each_way(const Sent& sent) {
  for (const char* what : {"activations, forward", "activations, backward"}) {
    const Communication& sums = sent.at(CollectiveKind::all_reduce, "model", what);
    EXPECT_EQ(sums.count, 2 * 2);
    EXPECT_EQ(sums.bytes, 4 * kActivation);
  }
  EXPECT_EQ(sent.at(CollectiveKind::all_reduce, "model", "scalars").count, 1);  // the norm
  EXPECT_EQ(sent.rows.size(), 3u);
  EXPECT_EQ(sent.made.notes, std::vector<std::string>{});
}

TEST(Volume, TensorParallelSumsActivationsTwiceALayerEachWay) {
  const MeshCase c = bert_case({"model=2", shard::preset("bert-tp")}, {});
  const Sent sent(c);
  expect_two_sums_a_layer_each_way(sent);
}

/// The same of the byte LM, whose query, key and value are one weight.
TEST(Volume, AJointProjectionCutByHeadsSendsNoMoreThanThreeOfThem) {
  const auto plan = [](const char* qkv) {
    return rules({"*.mlp.up=column_parallel(model)", "*.mlp.down=row_parallel(model)",
                  std::string("*.attention.qkv=") + qkv, "*.attention.out=row_parallel(model)"});
  };
  const auto library = models::ByteLmVariant::library;
  const Sent sent(byte_lm_case({"model=2", plan("column_parallel(model, 3)")}, library));
  expect_two_sums_a_layer_each_way(sent);

  // Cut as one, its pieces straddle the three and are put together.
  const Sent straddling(byte_lm_case({"model=2", plan("column_parallel(model)")}, library));
  EXPECT_EQ(straddling.at(CollectiveKind::all_gather, "model", "activations, forward").bytes,
            2 * 3 * kActivation);
}

TEST(Volume, AProductOfMeshesIsTheSumOfItsParts) {
  const MeshCase c = bert_case(
      {"data=2,model=2", shard::preset("bert-tp") + rules({"*=fully_shard(data, 1)"})}, {});
  const Sent sent(c);
  double local = 0.0;  // bytes of what one device of the model axis has
  for (const auto& [path, p] : c.params) {
    const double cut = p.placement.spec.dim_of("model") >= 0 ? 2.0 : 1.0;
    local += kF32 * static_cast<double>(p.shape.numel()) / cut;
  }
  EXPECT_EQ(sent.at(CollectiveKind::all_gather, "data", "parameters, forward").bytes,
            local - kUnusedPositions);
  EXPECT_EQ(sent.at(CollectiveKind::reduce_scatter, "data", "gradients").bytes, local);
  const double each = kF32 * kBatch / 2 * kSeq * 16;
  EXPECT_EQ(sent.at(CollectiveKind::all_reduce, "model", "activations, forward").bytes, 4 * each);
  EXPECT_EQ(sent.at(CollectiveKind::all_reduce, "model", "activations, backward").bytes, 4 * each);
  EXPECT_EQ(sent.made.notes, std::vector<std::string>{});
}

/// Bytes by kind, axis and subject.
using Bytes = std::map<std::string, double>;

Bytes planned(const MeshCase& c, const std::vector<std::string>& work_axes) {
  std::vector<shard::CostParam> params;
  for (const auto& [path, p] : c.params) {
    params.push_back({path, p.shape, p.dtype, p.trainable, p.placement.spec});
  }
  const double labelled = static_cast<double>(kLabels) / (kBatch * kSeq);
  const shard::Cost cost =
      shard::estimate(params, models::bert_workload(small_bert(), kSeq, labelled), c.options.mesh,
                      shard::load_device("h100"),
                      {.batch = kBatch, .compute_dtype = DType::f32, .model_axes = work_axes});
  Bytes bytes;
  for (const shard::Collective& k : cost.collectives) {
    bytes[fmt::format("{} over {}, {}", name(k.kind), k.axis, k.what)] += k.bytes;
  }
  return bytes;
}

Bytes found(const Sent& sent) {
  Bytes bytes;
  for (const Communication& k : sent.rows) {
    bytes[fmt::format("{} over {}, {}", name(k.kind), k.axes, k.what)] += k.bytes;
  }
  return bytes;
}

struct Compared {
  const char* title;
  CutPlan cut;
  std::vector<std::string> work_axes;
  Bytes more;  // what the graph has more of than the plan says, negative: less
};

TEST(Volume, AgreesWithTheCostModelButForListedDifferences) {
  const auto tensor_parallel = shard::preset("bert-tp");
  const auto sharded = rules({"*=fully_shard(data, 1)"});
  // Scalars of loss and norm are not in the plan, which counts bytes that take time. Parameters
  // that the backward pass does not read (biases, tables that are only looked up) are not gathered
  // for it, and positions beyond the sequence not at all; the plan gathers a layer as one.
  const auto unread = [&](const CutPlan& cut) {
    const MeshCase c = bert_case(cut, {});
    double bytes = 0.0;
    for (const auto& [path, p] : c.params) {
      const double pieces = p.placement.spec.dim_of("model") >= 0 ? 2.0 : 1.0;
      if (!read_backward(path)) bytes += kF32 * static_cast<double>(p.shape.numel()) / pieces;
    }
    return -bytes;
  };
  const CutPlan both{"data=2,model=2", tensor_parallel + sharded};
  const CutPlan fsdp{"data=4", sharded};
  const char* forward = "all-gather over data, parameters, forward";
  const char* backward = "all-gather over data, parameters, backward";
  const std::vector<Compared> cases{
      {"data parallel", {"data=4"}, {}, {{"all-reduce over data, scalars", 2 * kF32}}},
      {"fully sharded",
       fsdp,
       {},
       {{"all-reduce over data, scalars", 3 * kF32},
        {forward, -kUnusedPositions},
        {backward, unread(fsdp)}}},
      {"tensor parallel",
       {"model=2", tensor_parallel},
       {"model"},
       {{"all-reduce over model, scalars", kF32}}},
      {"data and tensor parallel",
       {"data=2,model=2", tensor_parallel},
       {"model"},
       {{"all-reduce over data, scalars", 2 * kF32}, {"all-reduce over model, scalars", kF32}}},
      {"all three",
       both,
       {"model"},
       {{"all-reduce over data, scalars", 3 * kF32},
        {"all-reduce over data,model, scalars", kF32},
        {forward, -kUnusedPositions},
        {backward, unread(both)}}},
  };
  for (const Compared& compared : cases) {
    SCOPED_TRACE(compared.title);
    const MeshCase c = bert_case(compared.cut, {});
    const Sent sent(c);
    Bytes want = planned(c, compared.work_axes);
    for (const auto& [what, bytes] : compared.more) want[what] += bytes;
    EXPECT_EQ(found(sent), want);
  }
}

}  // namespace
}  // namespace espalier::testing
