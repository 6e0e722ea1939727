// SPDX-License-Identifier: Apache-2.0
#include "espalier/backend/cpu/attention/engine.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace espalier::cpu {
namespace {

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
constexpr int64_t ceil_div(int64_t n, int64_t step) { return (n + step - 1) / step; }

/// Hands out 64-byte aligned pieces; from a null base it only counts.
class Carver {
 public:
  explicit Carver(char* base) : base_(base) {}
  float* floats(int64_t count) {
    char* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count * static_cast<int64_t>(sizeof(float)), 64);
    return reinterpret_cast<float*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

ForwardScratch carve_forward(Carver& carver, const AttentionParams& p, const AttentionPlan& plan) {
  const int64_t width = round_up(p.head_dim, plan.kernels.lanes);
  const AttentionTiles t = plan.tiles;
  const int64_t copy = plan.copy_keys ? t.keys * p.head_dim : 0;
  ForwardScratch s;
  s.queries = carver.floats(t.queries * width);
  s.out = carver.floats(t.queries * width);
  s.probs = carver.floats(t.keys * plan.kernels.panel);
  s.largest = carver.floats(t.queries);
  s.total = carver.floats(t.queries);
  s.keys = carver.floats(copy);
  s.values = carver.floats(copy);
  return s;
}

BackwardScratch carve_backward(Carver& carver, const AttentionParams& p,
                               const AttentionPlan& plan) {
  const int64_t width = round_up(p.head_dim, plan.kernels.lanes);
  const AttentionTiles t = plan.tiles;
  const int64_t copy = plan.copy_keys ? p.seq_k * p.head_dim : 0;
  BackwardScratch s;
  s.queries_t = carver.floats(t.queries * width);
  s.dout_t = carver.floats(t.queries * width);
  s.dqueries_t = carver.floats(t.queries * width);
  s.queries = carver.floats(t.queries * width);
  s.dout = carver.floats(t.queries * width);
  s.probs = carver.floats(t.keys * t.queries);
  s.dlogits = carver.floats(t.keys * t.queries);
  s.lse = carver.floats(t.queries);
  s.delta = carver.floats(t.queries);
  s.keys = carver.floats(copy);
  s.values = carver.floats(copy);
  s.dkeys = carver.floats(p.seq_k * width);
  s.dvalues = carver.floats(p.seq_k * width);
  return s;
}

template <typename T>
T* offset(T* data, int64_t elements, DType dtype) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return static_cast<Byte*>(data) + elements * size_of(dtype);
}

/// Dropout index of query 0 and key 0 of a head.
uint64_t first_element(const AttentionParams& p, int64_t batch, int64_t head) {
  return p.first + static_cast<uint64_t>(batch * p.heads + head) * static_cast<uint64_t>(p.seq_q) *
                       static_cast<uint64_t>(p.seq_k);
}

HeadShape head_shape(const AttentionParams& p, const AttentionPlan& plan, int64_t batch) {
  HeadShape s{};
  s.seq_q = p.seq_q;
  s.seq_k = p.seq_k;
  s.head_dim = p.head_dim;
  s.dtype = p.dtype;
  s.out_dtype = p.out_dtype;
  s.grad_dtype = p.grad_dtype;
  s.keys_in_place = !plan.copy_keys;
  s.scale = p.scale;
  s.causal = p.causal;
  s.query_tile = plan.tiles.queries;
  s.key_tile = plan.tiles.keys;
  s.key_mask = p.key_mask == nullptr ? nullptr : p.key_mask + batch * p.seq_k;
  s.segments_q = p.segments_q == nullptr ? nullptr : p.segments_q + batch * p.seq_q;
  s.segments_k = p.segments_k == nullptr ? nullptr : p.segments_k + batch * p.seq_k;
  // n * 2^-24 < dropout holds for integers n below this one, without rounding.
  s.dropout_below = static_cast<uint32_t>(std::ceil(static_cast<double>(p.dropout) * 0x1p24));
  s.keep_scale = 1.0f / (1.0f - p.dropout);
  s.rng = rng_key(p.seed, p.step, p.op_id);
  return s;
}

/// Tiles no larger than the sequences need.
AttentionTiles clip(AttentionTiles tiles, const AttentionParams& p, int panel) {
  tiles.queries = std::min(tiles.queries, round_up(std::max<int64_t>(p.seq_q, 1), panel));
  tiles.keys = std::min(tiles.keys, std::max<int64_t>(p.seq_k, 1));
  return tiles;
}

/// Rows whose stride leaves them in less than about a quarter of a cache way's sets push each other
/// out; and 16-bit elements have to be converted.
bool copy_keys(const AttentionParams& p) {
  constexpr int64_t kWay = 4096;  // bytes of one way of the first-level cache
  const int64_t row = p.head_dim * static_cast<int64_t>(sizeof(float));
  const int64_t stride = std::gcd(p.k.seq * static_cast<int64_t>(sizeof(float)), kWay);
  return p.dtype != DType::f32 || 4 * row <= stride;
}

}  // namespace

const AttentionKernels& attention_kernels(Isa isa) {
  return isa == Isa::avx2 ? kAttentionAvx2 : kAttentionAvx512;
}

AttentionTiles forward_tiles(const CpuInfo& cpu, int panel, int64_t head_dim) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t keys = cpu.l1_bytes / 4 / (panel * kFloat);
  const int64_t queries = cpu.l2_bytes / 4 / (2 * head_dim * kFloat);
  return {.queries = std::clamp<int64_t>(queries / panel * panel, panel, 256),
          .keys = std::clamp<int64_t>(keys / 16 * 16, 64, 256)};
}

AttentionTiles backward_tiles(const CpuInfo& cpu, int panel) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t side = static_cast<int64_t>(std::sqrt(cpu.l1_bytes / (2 * kFloat)));
  const int64_t queries = std::clamp<int64_t>(side / panel * panel, panel, 128);
  return {.queries = queries, .keys = queries};
}

AttentionPlan plan_forward(const AttentionParams& p, int threads) {
  const CpuInfo& cpu = cpu_info();
  const AttentionKernels& kernels = attention_kernels(cpu.isa);
  AttentionTiles tiles = clip(forward_tiles(cpu, kernels.panel, p.head_dim), p, kernels.panel);
  // Panels are independent of each other, so smaller blocks of queries change no result.
  while (tiles.queries > kernels.panel &&
         p.batch * p.heads * ceil_div(p.seq_q, tiles.queries) < 2 * threads) {
    tiles.queries = round_up(tiles.queries / 2, kernels.panel);
  }
  return {.kernels = kernels, .tiles = tiles, .copy_keys = copy_keys(p), .threads = threads};
}

AttentionPlan plan_backward(const AttentionParams& p, int threads) {
  const CpuInfo& cpu = cpu_info();
  const AttentionKernels& kernels = attention_kernels(cpu.isa);
  return {.kernels = kernels,
          .tiles = clip(backward_tiles(cpu, kernels.panel), p, kernels.panel),
          .copy_keys = copy_keys(p),
          .threads = threads};
}

int64_t forward_scratch(const AttentionParams& p, const AttentionPlan& plan) {
  Carver carver(nullptr);
  carve_forward(carver, p, plan);
  return carver.used() * plan.threads;
}

int64_t backward_scratch(const AttentionParams& p, const AttentionPlan& plan) {
  Carver carver(nullptr);
  carve_backward(carver, p, plan);
  return carver.used() * plan.threads;
}

namespace {

/// The pointers of one call.
struct ForwardCall {
  const AttentionPlan& plan;
  const AttentionParams& p;
  const void *q, *k, *v;
  void* out;
  float* lse;

  int64_t blocks() const { return ceil_div(p.seq_q, plan.tiles.queries); }
  int64_t items() const { return p.batch * p.heads * blocks(); }
  ForwardTask task(int64_t item) const;
};

ForwardTask ForwardCall::task(int64_t item) const {
  // The last blocks see most keys under causality: they go first, for balance.
  const int64_t block = blocks() - 1 - item % blocks();
  const int64_t head = item / blocks() % p.heads;
  const int64_t batch = item / blocks() / p.heads;
  const int64_t kv = head / (p.heads / p.kv_heads);
  ForwardTask t{};
  t.shape = head_shape(p, plan, batch);
  t.q = {offset(q, batch * p.q.batch + head * p.q.head, p.dtype), p.q.seq};
  t.k = {offset(k, batch * p.k.batch + kv * p.k.head, p.dtype), p.k.seq};
  t.v = {offset(v, batch * p.v.batch + kv * p.v.head, p.dtype), p.v.seq};
  t.out = {offset(out, batch * p.out.batch + head * p.out.head, p.out_dtype), p.out.seq};
  t.lse = lse + (batch * p.heads + head) * p.seq_q;
  t.first_element = first_element(p, batch, head);
  t.query_begin = block * plan.tiles.queries;
  t.query_end = std::min(p.seq_q, t.query_begin + plan.tiles.queries);
  return t;
}

struct BackwardCall {
  const AttentionPlan& plan;
  const AttentionParams& p;
  const void *q, *k, *v, *out;
  const float* lse;
  const void* dout;
  void *dq, *dk, *dv;

  int64_t items() const { return p.batch * p.kv_heads; }
  BackwardTask task(int64_t item) const;
};

BackwardTask BackwardCall::task(int64_t item) const {
  const int64_t kv = item % p.kv_heads;
  const int64_t batch = item / p.kv_heads;
  BackwardTask t{};
  t.group = p.heads / p.kv_heads;
  const int64_t head = kv * t.group;
  t.shape = head_shape(p, plan, batch);
  t.k = {offset(k, batch * p.k.batch + kv * p.k.head, p.dtype), p.k.seq};
  t.v = {offset(v, batch * p.v.batch + kv * p.v.head, p.dtype), p.v.seq};
  t.dk = {offset(dk, batch * p.dk.batch + kv * p.dk.head, p.grad_dtype), p.dk.seq};
  t.dv = {offset(dv, batch * p.dv.batch + kv * p.dv.head, p.grad_dtype), p.dv.seq};
  t.q = {offset(q, batch * p.q.batch + head * p.q.head, p.dtype), p.q.seq};
  t.out = {offset(out, batch * p.out.batch + head * p.out.head, p.out_dtype), p.out.seq};
  t.dout = {offset(dout, batch * p.dout.batch + head * p.dout.head, p.out_dtype), p.dout.seq};
  t.dq = {offset(dq, batch * p.dq.batch + head * p.dq.head, p.grad_dtype), p.dq.seq};
  t.q_head = p.q.head;
  t.out_head = p.out.head;
  t.dout_head = p.dout.head;
  t.dq_head = p.dq.head;
  t.lse = lse + (batch * p.heads + head) * p.seq_q;
  t.first_element = first_element(p, batch, head);
  return t;
}

/// Runs every task of a call; `carve` gives a thread its scratch.
template <typename Call, typename Carve>
void run_tasks(const Call& call, void (*kernel)(const decltype(call.task(0))&), Carve carve,
               char* scratch, int64_t per_thread) {
  const int threads = call.plan.threads;
  const int64_t items = call.items();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t item = 0; item < items; ++item) {
    Carver carver(scratch + omp_get_thread_num() * per_thread);
    auto task = call.task(item);
    task.scratch = carve(carver, call.p, call.plan);
    decltype(task) next;
    if (item + threads < items) {
      next = call.task(item + threads);
      task.next = &next;
    }
    kernel(task);
  }
}

}  // namespace

void run_forward(const AttentionPlan& plan, const AttentionParams& p, const void* q, const void* k,
                 const void* v, void* out, float* lse, void* scratch) {
  run_tasks(ForwardCall{plan, p, q, k, v, out, lse}, plan.kernels.forward, carve_forward,
            static_cast<char*>(scratch), forward_scratch(p, plan) / plan.threads);
}

void run_backward(const AttentionPlan& plan, const AttentionParams& p, const void* q, const void* k,
                  const void* v, const void* out, const float* lse, const void* dout, void* dq,
                  void* dk, void* dv, void* scratch) {
  run_tasks(BackwardCall{plan, p, q, k, v, out, lse, dout, dq, dk, dv}, plan.kernels.backward,
            carve_backward, static_cast<char*>(scratch), backward_scratch(p, plan) / plan.threads);
}

}  // namespace espalier::cpu
