// SPDX-License-Identifier: Apache-2.0
#include "tests/backend_jit/loop_case.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "espalier/base/error.h"

namespace espalier::cpu {

using plan::InnerStride;
using plan::LoopInst;
using plan::LoopOp;
using plan::LoopOperand;
using plan::LoopSpace;
using plan::OperandRole;

int LoopBuilder::operand(OperandRole role, DType dtype, bool varies_outer, InnerStride inner) {
  loop.operands.push_back({role, dtype, varies_outer && loop.outer_rank > 0, inner});
  return static_cast<int>(loop.operands.size()) - 1;
}

int LoopBuilder::inst(LoopOp op, DType dtype, std::vector<int> args, int operand) {
  LoopInst inst;
  inst.op = op;
  inst.dtype = dtype;
  inst.operand = operand;
  std::copy(args.begin(), args.end(), inst.args);
  loop.insts.push_back(inst);
  return static_cast<int>(loop.insts.size()) - 1;
}

int LoopBuilder::load(DType dtype, InnerStride inner, bool varies) {
  return inst(LoopOp::load, dtype, {}, operand(OperandRole::input, dtype, varies, inner));
}
int LoopBuilder::constant(DType dtype, double value) {
  const int i = inst(LoopOp::constant, dtype);
  loop.insts[i].value = value;
  return i;
}
int LoopBuilder::index(bool varies, InnerStride inner) {
  return inst(LoopOp::index, DType::i64, {},
              operand(OperandRole::index, DType::i64, varies, inner));
}
int LoopBuilder::op(LoopOp op, int a, int b, int c) {
  std::vector<int> args{a};
  if (b >= 0) args.push_back(b);
  if (c >= 0) args.push_back(c);
  return inst(op, loop.insts[args.back()].dtype, args);
}
int LoopBuilder::compare(LoopOp op, int a, int b) { return inst(op, DType::boolean, {a, b}); }
int LoopBuilder::convert(int a, DType to) { return inst(LoopOp::convert, to, {a}); }
int LoopBuilder::uniform(int seed, int step, int index, int64_t id) {
  const int i = inst(LoopOp::uniform, DType::f32, {seed, step, index});
  loop.insts[i].id = id;
  return i;
}
int LoopBuilder::store(int value, DType dtype, InnerStride inner, bool varies) {
  return inst(LoopOp::store, loop.insts[value].dtype, {value},
              operand(OperandRole::output, dtype, varies, inner));
}
int LoopBuilder::accumulate(int value, DType dtype, InnerStride inner, bool varies,
                            LoopSpace space) {
  const int i = inst(LoopOp::accumulate, loop.insts[value].dtype, {value},
                     operand(OperandRole::accumulator, dtype, varies, inner));
  loop.insts[i].space = space;
  return i;
}

namespace {
constexpr int64_t kPage = 4096;
constexpr char kGuard = 0x5A;
}  // namespace

GuardedBytes::GuardedBytes(int64_t bytes) : bytes_(bytes) {
  mapped_ = (bytes + kPage - 1) / kPage * kPage + kPage;  // at least a page of guard in front
  map_ = static_cast<char*>(mmap(nullptr, static_cast<size_t>(mapped_ + kPage),
                                 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ESPALIER_ASSERT(map_ != MAP_FAILED);
  ESPALIER_ASSERT(mprotect(map_ + mapped_, kPage, PROT_NONE) == 0);
  data_ = map_ + mapped_ - bytes;
  std::memset(map_, kGuard, static_cast<size_t>(mapped_));
}
GuardedBytes::~GuardedBytes() { munmap(map_, static_cast<size_t>(mapped_ + kPage)); }
bool GuardedBytes::front_intact() const {
  return std::all_of(map_, data_, [](char c) { return c == kGuard; });
}

namespace {

void fill(DType dtype, char* data, int64_t count, uint64_t seed, double scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0.0, scale);
  for (int64_t i = 0; i < count; ++i) {
    const double x = normal(random);
    const auto put = [&](auto value) {
      std::memcpy(data + i * sizeof value, &value, sizeof value);
    };
    switch (dtype) {
      case DType::f32:
        put(static_cast<float>(x));
        break;
      case DType::f64:
        put(x);
        break;
      case DType::bf16:
        put(to_bf16(static_cast<float>(x)));
        break;
      case DType::f16:
        put(to_f16(static_cast<float>(x)));
        break;
      case DType::i32:
        put(static_cast<int32_t>(std::lround(x * 10)));
        break;
      case DType::i64:
        put(static_cast<int64_t>(std::lround(x * 10)));
        break;
      case DType::u8:
        put(static_cast<uint8_t>(std::lround(x * 10)));
        break;
      case DType::boolean:
        put(static_cast<uint8_t>(x > 0));
        break;
    }
  }
}

double read_double(DType dtype, const char* at) {
  const auto get = [&](auto value) {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  switch (dtype) {
    case DType::f64:
      return get(double{});
    case DType::bf16:
      return static_cast<double>(from_bf16(get(uint16_t{})));
    case DType::f16:
      return static_cast<double>(from_f16(get(uint16_t{})));
    default:
      return static_cast<double>(get(float{}));
  }
}

int64_t read_int(DType dtype, const char* at) {
  const auto get = [&](auto value) {
    std::memcpy(&value, at, sizeof value);
    return static_cast<int64_t>(value);
  };
  if (dtype == DType::i64) return get(int64_t{});
  return dtype == DType::i32 ? get(int32_t{}) : get(uint8_t{});
}

}  // namespace

LoopCase::LoopCase(const plan::Loop& given, std::vector<int64_t> outer_extents,
                   int64_t inner_extent, Options options)
    : loop(given), outer(std::move(outer_extents)), inner(inner_extent) {
  const int rank = loop.outer_rank;
  ESPALIER_ASSERT(static_cast<int>(outer.size()) == rank);
  for (const int64_t extent : outer) rows *= extent;
  for (size_t k = 0; k < loop.operands.size(); ++k) {
    const LoopOperand& operand = loop.operands[k];
    const bool index = operand.role == OperandRole::index;
    const int64_t step = operand.inner == InnerStride::none   ? 0
                         : operand.inner == InnerStride::unit ? 1
                                                              : options.inner_stride;
    std::vector<int64_t> stride(rank + 1, 0);
    stride[rank] = step;
    int64_t span = step ? (inner - 1) * step + 1 : 1;
    if (operand.varies_outer) {
      for (int j = 0; j < rank; ++j) {
        const int d = options.transposed ? j : rank - 1 - j;
        stride[d] = span;
        span *= outer[d];
      }
    }
    strides.insert(strides.end(), stride.begin(), stride.end());
    if (index) {
      memory.push_back(nullptr);
      pointers.push_back(reinterpret_cast<void*>(options.index_base));
      continue;
    }
    memory.push_back(
        std::make_shared<GuardedBytes>(std::max<int64_t>(span, 0) * size_of(operand.dtype)));
    pointers.push_back(memory.back()->data());
    if (operand.role == OperandRole::output) {  // poison: NaN in every float type
      std::memset(memory.back()->data(), 0xFF, static_cast<size_t>(memory.back()->size()));
    } else {
      fill(operand.dtype, memory.back()->data(), std::max<int64_t>(span, 0),
           options.seed * 1000 + k, options.scale);
    }
  }
  ids = {7, 1234567890123, -3, 42};
  scratch = std::make_unique<GuardedBytes>((loop_scratch_bytes(loop, inner) + 63) / 64 * 64);
  for (const auto& m : memory) {
    originals.emplace_back();
    if (m) originals.back().assign(m->data(), m->data() + m->size());
  }
}

void LoopCase::in_place(int output, int input) {
  ESPALIER_ASSERT(size_of(loop.operands[output].dtype) == size_of(loop.operands[input].dtype));
  memory[output] = memory[input];
  pointers[output] = pointers[input];
  originals[output] = originals[input];
}

plan::LoopCall LoopCase::call(int64_t begin, int64_t end) {
  return {pointers.data(), outer.data(), inner, strides.data(),
          ids.data(),      begin,        end,   scratch->data()};
}

void LoopCase::restore() {
  for (size_t k = 0; k < memory.size(); ++k) {
    if (memory[k]) std::copy(originals[k].begin(), originals[k].end(), memory[k]->data());
  }
}

std::vector<std::vector<char>> LoopCase::run(LoopFn fn, int64_t chunk) {
  restore();
  if (chunk <= 0) chunk = std::max<int64_t>(range(), 1);
  for (int64_t begin = 0; begin < range(); begin += chunk) {
    std::memset(scratch->data(), 0xFF, static_cast<size_t>(scratch->size()));
    const plan::LoopCall arguments = call(begin, std::min(begin + chunk, range()));
    fn(&arguments);
  }
  std::vector<std::vector<char>> bytes;
  for (const auto& m : memory) {
    bytes.emplace_back();
    if (m) bytes.back().assign(m->data(), m->data() + m->size());
  }
  return bytes;
}

std::string LoopCase::check(LoopFn fn, int64_t chunk) {
  restore();
  const plan::LoopCall whole = call();
  const std::vector<plan::LoopResult> want = plan::evaluate_loop(loop, whole);
  const std::vector<std::vector<char>> got = run(fn, chunk);
  for (const auto& m : memory) {
    if (m && !m->front_intact()) return "wrote before an operand";
  }
  if (!scratch->front_intact()) return "wrote before the scratch";
  std::map<const void*, std::set<int64_t>> touched;
  size_t unbounded = 0;  // results that any value is good for
  for (const plan::LoopResult& r : want) {
    const DType dtype = loop.operands[r.operand].dtype;
    const int64_t size = size_of(dtype);
    touched[pointers[r.operand]].insert(r.offset);
    const char* at = got[r.operand].data() + r.offset * size;
    if (std::isinf(r.real.error)) {
      ++unbounded;
      continue;
    }
    if (!is_float(dtype)) {
      if (read_int(dtype, at) == r.real.integer) continue;
      return fmt::format("operand {} at {}: got {}, want {} in \"{}\"", r.operand, r.offset,
                         read_int(dtype, at), r.real.integer, loop.key());
    }
    const double value = read_double(dtype, at);
    const bool same = value == r.real.value || (std::isnan(value) && std::isnan(r.real.value));
    if (same || std::abs(value - r.real.value) <= r.real.error) continue;
    return fmt::format("operand {} at {}: got {:.9g}, want {:.9g} +- {:.3g} in \"{}\"", r.operand,
                       r.offset, value, r.real.value, r.real.error, loop.key());
  }
  if (unbounded > 0 && unbounded == want.size()) {
    return fmt::format("no result has a bound in \"{}\"", loop.key());
  }
  for (size_t k = 0; k < memory.size(); ++k) {
    if (!memory[k]) continue;
    const int64_t size = size_of(loop.operands[k].dtype);
    for (int64_t i = 0; i < static_cast<int64_t>(got[k].size()) / size; ++i) {
      if (touched[pointers[k]].contains(i)) continue;
      if (std::memcmp(got[k].data() + i * size, originals[k].data() + i * size, size) != 0) {
        return fmt::format("operand {} changed at {}, which the loop does not write", k, i);
      }
    }
  }
  return "";
}

LoopCompiler& compiler(int vector_width) {
  static std::map<int, std::unique_ptr<LoopCompiler>> compilers;
  auto& entry = compilers[vector_width];
  if (!entry) {
    JitOptions options;
    options.vector_width = vector_width;
    entry = std::make_unique<LoopCompiler>(options);
  }
  return *entry;
}

LoopFn compile(const plan::Loop& loop, int vector_width) {
  return compiler(vector_width).compile(std::span(&loop, 1))[0];
}

}  // namespace espalier::cpu
