// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/attention/attention.h"
#include "espalier/backend/cpu/exec/kernel.h"

namespace espalier::cpu {
namespace {

using ir::Attr;

AttentionStrides strides(const plan::Location& location) {
  const auto& s = location.view.strides;  // [batch, seq, head, head_dim]
  return {.batch = s[0], .head = s[2], .seq = s[1]};
}

/// Parameters and optional operands that both directions share.
class AttentionOperands {
 public:
  AttentionOperands(const plan::Step& step, size_t first_extra) : next_(first_extra) {
    const Shape& q = step.inputs[0].view.shape;
    const Shape& k = step.inputs[1].view.shape;
    params.batch = q[0];
    params.seq_q = q[1];
    params.heads = q[2];
    params.head_dim = q[3];
    params.seq_k = k[1];
    params.kv_heads = k[2];
    params.dtype = step.inputs[0].dtype;
    params.scale = static_cast<float>(step.attrs.real(Attr::scale));
    params.causal = step.attrs.integer_or(Attr::causal, 0) != 0;
    params.dropout = static_cast<float>(step.attrs.real_or(Attr::rate, 0.0));
    params.op_id = static_cast<uint64_t>(step.attrs.integer_or(Attr::id, 0));
    params.q = strides(step.inputs[0]);
    params.k = strides(step.inputs[1]);
    params.v = strides(step.inputs[2]);
  }

  void bind(const plan::Step& step, const Memory& memory) {
    size_t at = next_;
    const auto take = [&] { return memory.at(step.inputs[at++]); };
    if (step.attrs.integer_or(Attr::key_mask, 0) != 0) {
      params.key_mask = reinterpret_cast<const uint8_t*>(take());
    }
    if (step.attrs.integer_or(Attr::segments, 0) != 0) {
      params.segments_q = reinterpret_cast<const int32_t*>(take());
      params.segments_k = reinterpret_cast<const int32_t*>(take());
    }
    if (params.dropout > 0.0f) {
      seed_ = reinterpret_cast<const int64_t*>(take());
      step_ = reinterpret_cast<const int64_t*>(take());
      if (at < step.inputs.size()) first_ = reinterpret_cast<const int64_t*>(take());
    }
  }

  const AttentionParams& now() {
    if (seed_ != nullptr) {
      params.seed = static_cast<uint64_t>(*seed_);
      params.step = static_cast<uint64_t>(*step_);
      params.first = first_ != nullptr ? static_cast<uint64_t>(*first_) : 0;
    }
    return params;
  }

  /// Products of queries with visible keys; a causal mask counts half.
  double pairs() const {
    const double all = static_cast<double>(params.batch * params.heads) *
                       static_cast<double>(params.seq_q) * static_cast<double>(params.seq_k);
    return params.causal ? all / 2.0 : all;
  }

  AttentionParams params;

 private:
  size_t next_;
  const int64_t* seed_ = nullptr;
  const int64_t* step_ = nullptr;
  const int64_t* first_ = nullptr;
};

class AttentionKernel final : public Kernel {
 public:
  AttentionKernel(const plan::Step& step, int threads) : operands_(step, 3), threads_(threads) {
    operands_.params.out_dtype = step.outputs[0].dtype;
    operands_.params.out = strides(step.outputs[0]);
    check_attention(operands_.params);
  }
  int64_t scratch_bytes() const override {
    return attention_forward_scratch(operands_.params, threads_);
  }
  void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) override {
    operands_.bind(step, memory);
    for (size_t i = 0; i < 3; ++i) qkv_[i] = memory.at(step.inputs[i]);
    out_ = memory.at(step.outputs[0]);
    lse_ = reinterpret_cast<float*>(memory.at(step.outputs[1]));
    scratch_ = scratch;
  }
  void run() override {
    attention_forward(operands_.now(), qkv_[0], qkv_[1], qkv_[2], out_, lse_, scratch_, threads_);
  }
  std::string describe() const override { return "flash attention"; }
  double flops() const override {
    return 4.0 * operands_.pairs() * static_cast<double>(operands_.params.head_dim);
  }

 private:
  AttentionOperands operands_;
  int threads_;
  const void* qkv_[3] = {};
  void* out_ = nullptr;
  float* lse_ = nullptr;
  void* scratch_ = nullptr;
};

class AttentionGradKernel final : public Kernel {
 public:
  AttentionGradKernel(const plan::Step& step, int threads) : operands_(step, 6), threads_(threads) {
    AttentionParams& p = operands_.params;
    p.out_dtype = step.inputs[3].dtype;
    p.grad_dtype = step.outputs[0].dtype;
    p.out = strides(step.inputs[3]);
    p.dout = strides(step.inputs[5]);
    p.dq = strides(step.outputs[0]);
    p.dk = strides(step.outputs[1]);
    p.dv = strides(step.outputs[2]);
    check_attention(p);
  }
  int64_t scratch_bytes() const override {
    return attention_backward_scratch(operands_.params, threads_);
  }
  void bind(const plan::Step& step, const Memory& memory, std::byte* scratch) override {
    operands_.bind(step, memory);
    for (size_t i = 0; i < 6; ++i) in_[i] = memory.at(step.inputs[i]);
    for (size_t i = 0; i < 3; ++i) grads_[i] = memory.at(step.outputs[i]);
    scratch_ = scratch;
  }
  void run() override {
    attention_backward(operands_.now(), in_[0], in_[1], in_[2], in_[3],
                       static_cast<const float*>(in_[4]), in_[5], grads_[0], grads_[1], grads_[2],
                       scratch_, threads_);
  }
  std::string describe() const override { return "flash attention backward"; }
  double flops() const override {
    return 8.0 * operands_.pairs() * static_cast<double>(operands_.params.head_dim);
  }

 private:
  AttentionOperands operands_;
  int threads_;
  const void* in_[6] = {};
  void* grads_[3] = {};
  void* scratch_ = nullptr;
};

}  // namespace

std::unique_ptr<Kernel> make_attention_kernel(const plan::Step& step, int threads) {
  return std::make_unique<AttentionKernel>(step, threads);
}
std::unique_ptr<Kernel> make_attention_grad_kernel(const plan::Step& step, int threads) {
  return std::make_unique<AttentionGradKernel>(step, threads);
}

}  // namespace espalier::cpu
