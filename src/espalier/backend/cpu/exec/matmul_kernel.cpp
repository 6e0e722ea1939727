// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/backend/cpu/matmul/matmul.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

using ir::Attr;

MatrixLayout layout(const plan::MatmulGeometry::Layout& l) {
  return {.row = l.row, .col = l.col, .outer = l.outer, .inner = l.inner};
}

Activation activation(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu_erf;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  ESPALIER_CHECK(name.empty(), ErrorKind::internal, "matmul", "unknown activation \"{}\"", name);
  return Activation::none;
}

class MatmulKernel final : public Kernel {
 public:
  MatmulKernel(const plan::Step& step, int threads) {
    const plan::MatmulGeometry& g = step.matmul;
    MatmulDesc desc;
    desc.batch_outer = g.batch_outer;
    desc.batch_inner = g.batch_inner;
    desc.m = g.m;
    desc.n = g.n;
    desc.k = g.k;
    desc.a_dtype = step.inputs[0].dtype;
    desc.b_dtype = step.inputs[1].dtype;
    desc.c_dtype = step.outputs[0].dtype;
    desc.a = layout(g.a);
    desc.b = layout(g.b);
    desc.c = layout(g.c);
    desc.bias = step.attrs.integer_or(Attr::bias, 0) != 0;
    if (desc.bias) desc.bias_dtype = step.inputs[2].dtype;
    desc.activation = activation(step.attrs.text_or(Attr::activation, ""));
    ESPALIER_CHECK(step.attrs.integer_or(Attr::accumulate, 0) == 0, ErrorKind::unsupported,
                   "matmul", "an addend operand at {}", step.label);
    desc.b_constant = step.attrs.integer_or(Attr::packed, 0) != 0;
    plan_ = Matmul::create(desc, {.threads = threads});
  }

  int64_t scratch_bytes() const override { return plan_->scratch_bytes(); }
  void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) override {
    a_ = memory.at(step.inputs[0]);
    b_ = memory.at(step.inputs[1]);
    bias_ = plan_->desc().bias ? memory.at(step.inputs[2]) : nullptr;
    c_ = memory.at(step.outputs[0]);
    scratch_ = scratch;
    packed_ = step.packed >= 0 ? memory.buffer(step.packed) : nullptr;
  }
  void run() override {
    if (packed_ != nullptr) {
      plan_->run_packed(a_, packed_, bias_, c_, scratch_);
    } else {
      plan_->run(a_, b_, bias_, c_, scratch_);
    }
  }
  int64_t packed_bytes() const override { return plan_->packed_b_bytes(); }
  void pack() override {
    if (packed_ != nullptr) plan_->pack_b(b_, packed_, scratch_);
  }
  std::string describe() const override { return plan_->desc().str() + ": " + plan_->describe(); }
  double flops() const override { return plan_->desc().flops(); }

 private:
  std::unique_ptr<Matmul> plan_;
  const void* a_ = nullptr;
  const void* b_ = nullptr;
  const void* bias_ = nullptr;
  void* c_ = nullptr;
  void* scratch_ = nullptr;
  void* packed_ = nullptr;
};

}  // namespace

std::unique_ptr<Kernel> make_matmul_kernel(const plan::Step& step, int threads) {
  return std::make_unique<MatmulKernel>(step, threads);
}

}  // namespace espalier::cpu
