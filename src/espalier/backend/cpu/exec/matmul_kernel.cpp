// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/exec/kernel.h"
#include "espalier/backend/cpu/matmul/matmul.h"
#include "espalier/base/error.h"
#include "espalier/tensor/convert.h"

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
  if (name == "swiglu") return Activation::swiglu;
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
    desc.b_dtype =
        step.attrs.has(Attr::rounded) ? step.attrs.dtype(Attr::rounded) : step.inputs[1].dtype;
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
    if (step.attrs.has(Attr::rounded) && plan_->packed_b_bytes() == 0) {
      rounded_elements_ = 1 + (g.batch_outer - 1) * g.b.outer + (g.batch_inner - 1) * g.b.inner +
                          (g.k - 1) * g.b.row + (g.n - 1) * g.b.col;
    }
  }

  int64_t scratch_bytes() const override { return plan_->scratch_bytes(); }
  void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) override {
    a_ = memory.at(step.inputs[0]);
    b_ = memory.at(step.inputs[1]);
    second_ = plan_->desc().activation == Activation::swiglu ? memory.at(step.inputs[2]) : nullptr;
    b_dtype_ = step.inputs[1].dtype;
    bias_ = plan_->desc().bias ? memory.at(step.inputs[2]) : nullptr;
    c_ = memory.at(step.outputs[0]);
    scratch_ = scratch;
    packed_ = step.packed >= 0 ? memory.buffer(step.packed) : nullptr;
  }
  void run() override {
    if (rounded_elements_ > 0) {
      plan_->run(a_, packed_, bias_, c_, scratch_);
    } else if (packed_ != nullptr) {
      plan_->run_packed(a_, packed_, bias_, c_, scratch_);
    } else {
      plan_->run(a_, b_, bias_, c_, scratch_);
    }
  }
  int64_t packed_bytes() const override {
    return rounded_elements_ > 0 ? rounded_elements_ * size_of(plan_->desc().b_dtype)
                                 : plan_->packed_b_bytes();
  }
  std::string packed_layout() const override {
    const MatmulDesc& desc = plan_->desc();
    return fmt::format("strides {} {}, {}", desc.b.row, desc.b.col,
                       rounded_elements_ > 0 ? fmt::format("as {}", espalier::name(desc.b_dtype))
                                             : plan_->packed_layout());
  }
  int64_t pack_scratch_bytes() const override { return plan_->pack_scratch_bytes(); }
  void pack(std::byte* scratch) override {
    if (packed_ == nullptr) return;
    if (rounded_elements_ == 0) return plan_->pack_b(b_, second_, b_dtype_, packed_, scratch);
    const HostTensor from(b_dtype_, {rounded_elements_}, const_cast<void*>(b_), nullptr);
    convert_values(from, 0, {plan_->desc().b_dtype, {rounded_elements_}, packed_, nullptr});
  }
  std::string describe() const override { return plan_->desc().str() + ": " + plan_->describe(); }
  double flops() const override { return plan_->desc().flops(); }

 private:
  std::unique_ptr<Matmul> plan_;
  const void* a_ = nullptr;
  const void* b_ = nullptr;
  const void* second_ = nullptr;  // of a swiglu
  DType b_dtype_ = DType::f32;
  /// Where the plan packs nothing: B is only rounded, in the same order.
  int64_t rounded_elements_ = 0;
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
