// SPDX-License-Identifier: Apache-2.0
// The node tests of ONNX, where their files lie beside the sources (../shared/data/ops/onnx_node).
// Each is rebuilt from our ops and evaluated in double; the expected values come from NumPy in f32,
// so they may be as far away as the budget of an f32 machine allows.
#include "tests/support/onnx.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/budget.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"

namespace espalier::testing {
namespace {

namespace fs = std::filesystem;
using In = std::vector<Tensor>;   // undefined where an optional input is not given
using Out = std::vector<Tensor>;  // undefined where we do not compute an output

[[noreturn]] void skip(std::string_view why) { fail(ErrorKind::unsupported, "onnx", "{}", why); }
void skip_if(bool condition, std::string_view why) {
  if (condition) skip(why);
}

int64_t resolve(int64_t axis, const Tensor& x) { return axis < 0 ? axis + x.rank() : axis; }

/// Product of sizes of the axes [begin, end).
int64_t product(const Tensor& x, int64_t begin, int64_t end) {
  int64_t size = 1;
  for (int64_t i = begin; i < end; ++i) size *= x.size(i);
  return size;
}

/// The permutation of `rank` axes that moves one to the end.
std::vector<int64_t> to_end(int64_t axis, int64_t rank) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < rank; ++i) {
    if (i != axis) order.push_back(i);
  }
  order.push_back(axis);
  return order;
}
std::vector<int64_t> from_end(int64_t axis, int64_t rank) {
  const std::vector<int64_t> there = to_end(axis, rank);
  std::vector<int64_t> back(there.size());
  for (size_t i = 0; i < there.size(); ++i) {
    back[static_cast<size_t>(there[i])] = static_cast<int64_t>(i);
  }
  return back;
}

Out normalization(const onnx::Node& node, const In& in) {
  const Tensor& x = in[0];
  const int64_t axis = resolve(node.integer("axis", -1), x);
  const int64_t width = product(x, axis, x.rank());
  const Tensor rows = reshape(x, {product(x, 0, axis), width});
  const double epsilon = node.real("epsilon", 1e-5);
  const Tensor weight = reshape(in[1], {width});
  if (node.op == "RMSNormalization") {
    return {reshape(rms_norm(rows, weight, epsilon), x.shape())};
  }
  const Tensor bias = reshape(in[2], {width});
  return {reshape(layer_norm(rows, weight, bias, epsilon), x.shape()), {}, {}};
}

Out softmax_node(const onnx::Node& node, const In& in) {
  const int64_t axis = resolve(node.integer("axis", -1), in[0]);
  const Tensor x = transpose(in[0], to_end(axis, in[0].rank()));
  const auto back = from_end(axis, x.rank());
  if (node.op == "Softmax") return {transpose(softmax(x), back)};
  // log softmax(x)[i] is minus the cross entropy of label i.
  Shape square = x.shape();
  square.push_back(x.size(-1));
  std::vector<int64_t> axes(static_cast<size_t>(x.rank() - 1));
  std::iota(axes.begin(), axes.end(), 0);
  axes.push_back(x.rank());
  const Tensor labels = iota(x.builder(), DType::i32, x.shape(), x.rank() - 1);
  return {transpose(-softmax_cross_entropy(broadcast(x, square, axes), labels), back)};
}

Out cross_entropy(const onnx::Node& node, const In& in) {
  const Tensor x = transpose(in[0], to_end(1, in[0].rank()));
  Tensor labels = in[1];
  if (node.integers.count("ignore_index") > 0) {
    const auto ignored = static_cast<double>(node.integer("ignore_index", 0));
    const Tensor hit = compare(ir::Op::eq, labels, constant_like(labels, ignored));
    labels = select(hit, constant_like(labels, -1.0), labels);
  }
  Tensor loss = softmax_cross_entropy(x, labels);
  const Tensor inside = compare(ir::Op::ge, labels, constant_like(labels, 0.0));
  Tensor weight = convert(inside, DType::f32);
  if (in.size() > 2 && in[2].defined()) {
    const Tensor table = reshape(in[2], {in[2].size(0), 1});
    const Tensor safe = maximum(labels, constant_like(labels, 0.0));
    weight = weight * reshape(gather(table, safe), labels.shape());
    loss = loss * weight;
  }
  const std::string reduction = node.text("reduction", "mean");
  if (reduction != "none") {
    loss = reduce_sum(reshape(loss, {-1}), {0});
    if (reduction == "mean") loss = loss / reduce_sum(reshape(weight, {-1}), {0});
  }
  return {loss, {}};
}

Out gelu_node(const onnx::Node& node, const In& in) {
  return {node.text("approximate", "none") == "tanh" ? gelu_tanh(in[0]) : gelu(in[0])};
}

Out swish_node(const onnx::Node& node, const In& in) {
  return {in[0] / (1.0 + exp(in[0] * -node.real("alpha", 1.0)))};
}

/// [B,H,S,D] or [B,S,H*D] -> [B,S,H,D]
Tensor sequence_first(Tensor x, int64_t heads) {
  if (x.rank() == 4) return transpose(x, {0, 2, 1, 3});
  return reshape(x, {x.size(0), x.size(1), heads, x.size(2) / heads});
}

Out attention_node(const onnx::Node& node, const In& in) {
  skip_if(in.size() > 3 && in[3].defined(), "attention with a mask or a bias on the scores");
  skip_if(in.size() > 4, "attention with a past");
  skip_if(node.real("softcap", 0.0) != 0.0, "attention with softcap");
  skip_if(node.outputs.size() > 1, "attention that returns its scores");
  skip_if(in[0].dtype() == DType::f16, "the reference rounds its scores to f16");
  const Tensor q = sequence_first(in[0], node.integer("q_num_heads", 0));
  Tensor k = sequence_first(in[1], node.integer("kv_num_heads", 0));
  Tensor v = sequence_first(in[2], node.integer("kv_num_heads", 0));
  skip_if(k.shape() != v.shape(), "attention with another size of values");
  AttentionOptions options;
  options.scale = node.real("scale", 0.0);
  options.causal = node.integer("is_causal", 0) != 0;
  if (options.causal && k.size(1) > q.size(1)) {
    // Here query i sees keys up to i, whatever the number of keys: later keys play no part.
    k = slice(k, 1, 0, q.size(1));
    v = slice(v, 1, 0, q.size(1));
  }
  const Tensor out = scaled_dot_product_attention(q, k, v, options);
  return {in[0].rank() == 4 ? transpose(out, {0, 2, 1, 3}) : reshape(out, in[0].shape())};
}

Out rebuild(const onnx::Node& node, const In& in) {
  if (node.op == "LayerNormalization" || node.op == "RMSNormalization") {
    return normalization(node, in);
  }
  if (node.op == "Softmax" || node.op == "LogSoftmax") return softmax_node(node, in);
  if (node.op == "SoftmaxCrossEntropyLoss") return cross_entropy(node, in);
  if (node.op == "Gelu") return gelu_node(node, in);
  if (node.op == "Swish") return swish_node(node, in);
  if (node.op == "Attention") return attention_node(node, in);
  skip("op " + node.op);
}

/// Throws `unsupported` with the reason when we cannot express the test.
void check_node_test(const fs::path& folder) {
  const onnx::Model model = onnx::read_model(folder / "model.onnx");
  skip_if(model.nodes.size() != 1, "a model of several nodes");
  const onnx::Node& node = model.nodes[0];
  const auto file = [&](const char* kind, size_t i) {
    return folder / "test_data_set_0" / fmt::format("{}_{}.pb", kind, i);
  };
  ir::Builder b(folder.filename().string());
  std::vector<interp::DoubleTensor> inputs;
  std::map<std::string, Tensor> by_name;
  for (size_t i = 0; i < model.inputs.size(); ++i) {
    inputs.push_back(onnx::read_tensor(file("input", i)));
    by_name[model.inputs[i]] = {b, b.input(model.inputs[i], inputs[i].type, "batch")};
  }
  In in;
  for (const std::string& name : node.inputs) in.push_back(by_name[name]);
  const Out out = rebuild(node, in);
  std::vector<interp::DoubleTensor> want;
  for (size_t i = 0; i < out.size() && i < node.outputs.size(); ++i) {
    if (!out[i].defined()) continue;
    const auto at = std::find(model.outputs.begin(), model.outputs.end(), node.outputs[i]);
    b.output(node.outputs[i], out[i].value());
    want.push_back(
        onnx::read_tensor(file("output", static_cast<size_t>(at - model.outputs.begin()))));
  }
  const ir::Graph graph = b.finish();
  const auto got = interp::evaluate(graph, inputs);
  const Budgeted budgeted = budgets(graph, inputs);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].type.shape, want[i].type.shape);
    EXPECT_TRUE(within(want[i].data, got[i].data, budgeted.budget[i]));
  }
}

std::vector<fs::path> node_tests() {
  std::vector<fs::path> folders;
  for (const char* up : {"..", "../.."}) {
    const fs::path root = fs::path(ESPALIER_SOURCE_DIR) / up / "shared/data/ops/onnx_node";
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) folders.push_back(entry.path());
    break;
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

TEST(Onnx, NodeTestsAgree) {
  const std::vector<fs::path> folders = node_tests();
  if (folders.empty()) GTEST_SKIP() << "no ../shared/data/ops/onnx_node";
  std::map<std::string, int> skipped;
  int checked = 0;
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.filename().string());
    try {
      check_node_test(folder);
      ++checked;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      ++skipped[error.what()];
    }
  }
  fmt::print("{} of {} ONNX node tests checked; not expressed in our ops:\n", checked,
             folders.size());
  for (const auto& [why, count] : skipped) fmt::print("  {:3} {}\n", count, why);
  EXPECT_GE(checked, 80);
}

TEST(Onnx, ReaderRefusesBrokenMessages) {
  for (const std::string& bytes :
       {std::string("\x0a\x7f"), std::string("\x0b"), std::string("\x08")}) {
    EXPECT_THROW(
        {
          for (onnx::Message m(bytes); m.next();) continue;
        },
        Error);
  }
}

}  // namespace
}  // namespace espalier::testing
