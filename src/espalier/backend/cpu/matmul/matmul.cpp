// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/matmul/matmul.h"

#include <array>

#include "espalier/backend/cpu/matmul/implementations.h"
#include "espalier/backend/cpu/matmul/packed_gemm.h"
#include "espalier/base/error.h"

namespace espalier::cpu {
namespace {

class PackedMatmul final : public Matmul {
 public:
  PackedMatmul(const MatmulDesc& desc, const GemmKernels& kernels, int threads)
      : Matmul(desc), gemm_(desc, kernels, cpu_info(), threads) {}
  int64_t scratch_bytes() const override { return gemm_.scratch_bytes(); }
  void run(const void* a, const void* b, const void* bias, void* c, void* scratch) override {
    gemm_.run(a, b, nullptr, bias, c, scratch);
  }
  int64_t packed_b_bytes() const override { return desc_.b_constant ? gemm_.packed_b_bytes() : 0; }
  std::string packed_layout() const override { return gemm_.packed_layout(); }
  int64_t pack_scratch_bytes() const override { return gemm_.pack_scratch_bytes(); }
  void pack_b(const void* b, const void* second, DType from, void* packed,
              void* scratch) const override {
    gemm_.pack_b(b, second, from, packed, scratch);
  }
  void run_packed(const void* a, const void* packed, const void* bias, void* c,
                  void* scratch) override {
    gemm_.run(a, nullptr, packed, bias, c, scratch);
  }
  std::string plan() const { return gemm_.describe(); }

 private:
  PackedGemm gemm_;
};

MatmulPlan packed_plan(const MatmulDesc& desc, const GemmKernels& kernels, int threads) {
  auto matmul = std::make_unique<PackedMatmul>(desc, kernels, threads);
  std::string text = matmul->plan();
  return {std::move(matmul), std::move(text)};
}

/// Where the own product is known to be the fastest.
std::string packed_declines(const MatmulDesc& desc, Isa isa) {
  const bool native_bf16 =
      isa == Isa::avx512_bf16 && desc.a_dtype == DType::bf16 && desc.b_dtype == DType::bf16;
  if (native_bf16) return "the processor multiplies bf16 itself";
  if (isa != Isa::avx2 && desc.a.row != 1) return "onednn is as fast on contiguous rows of A";
  return "";
}

std::string nothing_declined(const MatmulDesc&, Isa) { return ""; }

struct Row {
  std::string_view name;
  std::string (*declines)(const MatmulDesc& desc, Isa isa);
  MatmulPlan (*make)(const MatmulDesc& desc, Isa isa, int threads);
  bool only_by_name;
};

// First that accepts wins; the last automatic row accepts everything.
constexpr std::array kTable = {
    Row{"packed_fast", packed_declines, make_packed_matmul, false},
    Row{"onednn", onednn_declines, make_onednn_matmul, false},
    Row{"packed", nothing_declined, make_packed_matmul, false},
    Row{"wide", nothing_declined, make_wide_matmul, true},
};

void check(const MatmulDesc& desc) {
  ESPALIER_CHECK(
      desc.batch_outer >= 1 && desc.batch_inner >= 1 && desc.m >= 1 && desc.n >= 1 && desc.k >= 1,
      ErrorKind::user, "matmul", "sizes below 1: {}", desc.str());
  const auto known = [](DType dtype) {
    return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
  };
  ESPALIER_CHECK(known(desc.a_dtype) && known(desc.b_dtype) && known(desc.bias_dtype),
                 ErrorKind::user, "matmul", "inputs must be f32, bf16 or f16: {}", desc.str());
  ESPALIER_CHECK(
      desc.c_dtype == DType::f32 || desc.c_dtype == desc.a_dtype || desc.c_dtype == desc.b_dtype,
      ErrorKind::user, "matmul", "the result must be f32 or an input's type: {}", desc.str());
}

}  // namespace

MatmulPlan make_packed_matmul(const MatmulDesc& desc, Isa isa, int threads) {
  return packed_plan(desc, isa == Isa::avx2 ? gemm_kernels_avx2() : gemm_kernels_avx512(), threads);
}

MatmulPlan make_wide_matmul(const MatmulDesc& desc, Isa, int threads) {
  return packed_plan(desc, gemm_kernels_wide_avx2(), threads);
}

void Matmul::pack_b(const void*, const void*, DType, void*, void*) const {
  fail(ErrorKind::internal, "matmul", "pack_b on a plan without packed B: {}", describe());
}

void Matmul::run_packed(const void*, const void*, const void*, void*, void*) {
  fail(ErrorKind::internal, "matmul", "run_packed on a plan without packed B: {}", describe());
}

std::unique_ptr<Matmul> Matmul::create(const MatmulDesc& desc, const MatmulOptions& options) {
  check(desc);
  const Isa isa = options.isa.value_or(cpu_info().isa);
  ESPALIER_CHECK(isa <= cpu_info().hardware, ErrorKind::unsupported, "matmul",
                 "{} asked for, but this processor has no more than {}", name(isa),
                 name(cpu_info().hardware));
  const int threads = options.threads > 0 ? options.threads : cpu_info().cores;
  std::string declined;
  for (const Row& row : kTable) {
    const bool chosen = options.implementation == row.name;
    if (!options.implementation.empty() ? !chosen : row.only_by_name) continue;
    const std::string why = row.declines(desc, isa);
    if (!why.empty()) {
      declined += fmt::format("{}{} ({})", declined.empty() ? "" : ", ", row.name, why);
      ESPALIER_CHECK(!chosen, ErrorKind::unsupported, "matmul", "{} declines {}: {}", row.name,
                     desc.str(), why);
      continue;
    }
    MatmulPlan plan = row.make(desc, isa, threads);
    plan.matmul->description_ = plan.description;
    if (!declined.empty()) plan.matmul->description_ += fmt::format("; declined: {}", declined);
    return std::move(plan.matmul);
  }
  fail(ErrorKind::user, "matmul", "no implementation is called \"{}\"; known are packed, onednn",
       options.implementation);
}

std::string_view name(Activation activation) {
  switch (activation) {
    case Activation::relu:
      return "relu";
    case Activation::gelu_erf:
      return "gelu_erf";
    case Activation::gelu_tanh:
      return "gelu_tanh";
    case Activation::swiglu:
      return "swiglu";
    case Activation::none:
      break;
  }
  return "none";
}

std::string MatmulDesc::str() const {
  std::string text;
  if (batch() != 1) text = fmt::format("{}x{} of ", batch_outer, batch_inner);
  text += fmt::format("[{},{}]{} x [{},{}]{} {},{}->{}", m, k, a.col == 1 ? "" : "^T", k, n,
                      b.col == 1 ? "" : "^T", espalier::name(a_dtype), espalier::name(b_dtype),
                      espalier::name(c_dtype));
  if (bias) text += " +bias";
  if (accumulate) text += " +=";
  if (activation != Activation::none) text += fmt::format(" {}", cpu::name(activation));
  return text;
}

}  // namespace espalier::cpu
