// SPDX-License-Identifier: Apache-2.0
// Accuracy of the f32 functions against double libm over all bit patterns (a fixed stride of them),
// as scalars and as vectors. The bounds below are what docs/decisions/jit.md states.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "tests/backend_jit/loop_case.h"

namespace espalier::cpu {
namespace {

using plan::InnerStride;
using plan::LoopOp;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Function {
  const char* name;
  LoopOp op;
  double (*exact)(double);
  double ulps;
};
constexpr Function kFunctions[] = {
    {"exp", LoopOp::exp, std::exp, 1.1},    {"log", LoopOp::log, std::log, 0.9},
    {"tanh", LoopOp::tanh, std::tanh, 2.4}, {"erf", LoopOp::erf, std::erf, 1.1},
    {"sin", LoopOp::sin, std::sin, 1.6},    {"cos", LoopOp::cos, std::cos, 1.6},
};

/// Distance from the true value in units in the last place of an f32 near it.
double ulps_off(float got, double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0.0 : kInf;
  if (std::isnan(got)) return kInf;
  if (static_cast<double>(got) == want) return 0.0;
  // Beyond the largest float by half a unit, infinity is the right answer.
  if (std::abs(want) >= 0x1.ffffffp127)
    return std::isinf(got) && (got > 0) == (want > 0) ? 0.0 : kInf;
  const int exponent = want == 0.0 ? -149 : std::max(std::ilogb(want) - 23, -149);
  return std::abs(static_cast<double>(got) - want) / std::ldexp(1.0, exponent);
}

std::vector<float> run(LoopFn fn, const std::vector<float>& x,
                       const std::vector<float>* y = nullptr) {
  std::vector<float> out(x.size() + 16);
  void* operands[3] = {const_cast<float*>(x.data()),
                       y ? static_cast<void*>(const_cast<float*>(y->data())) : out.data(),
                       out.data()};
  const int64_t strides[3] = {1, 1, 1};
  const int64_t n = static_cast<int64_t>(x.size());
  const plan::LoopCall call{operands, nullptr, n, strides, nullptr, 0, n, nullptr};
  fn(&call);
  out.resize(x.size());
  return out;
}

plan::Loop unary(LoopOp op) {
  LoopBuilder b(0);
  b.store(b.op(op, b.load(DType::f32)), DType::f32);
  return b.loop;
}

plan::Loop binary(LoopOp op) {
  LoopBuilder b(0);
  const int x = b.load(DType::f32), y = b.load(DType::f32);
  b.store(b.op(op, x, y), DType::f32);
  return b.loop;
}

/// A row value of every element: the scalar form of the function.
plan::Loop unary_row(LoopOp op) {
  LoopBuilder b(1);
  b.store(b.op(op, b.load(DType::f32, InnerStride::none)), DType::f32, InnerStride::none);
  return b.loop;
}

std::vector<float> bit_patterns(uint32_t stride) {
  std::vector<float> x{0.0f,
                       -0.0f,
                       kInf,
                       -kInf,
                       kNan,
                       1.0f,
                       -1.0f,
                       0x1p-149f,
                       -0x1p-149f,
                       0x1.fffffep127f,
                       -0x1.fffffep127f,
                       0x1p-126f,
                       88.72283f,
                       88.72284f};
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += stride) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  return x;
}

}  // namespace

TEST(Math, EveryFunctionHasABound) {
  std::set<LoopOp> bounded{LoopOp::sqrt, LoopOp::rsqrt, LoopOp::floor};  // those of rounding alone
  for (const Function& f : kFunctions) bounded.insert(f.op);
  for (int op = static_cast<int>(LoopOp::exp); op <= static_cast<int>(LoopOp::floor); ++op) {
    EXPECT_TRUE(bounded.contains(static_cast<LoopOp>(op))) << info(static_cast<LoopOp>(op)).name;
  }
}

TEST(Math, FunctionsStayWithinTheirUlps) {
  const std::vector<float> x = bit_patterns(4099);
  for (const Function& f : kFunctions) {
    const std::vector<float> got = run(compile(unary(f.op)), x);
    double worst = 0.0;
    float where = 0.0f;
    for (size_t i = 0; i < x.size(); ++i) {
      const double off = ulps_off(got[i], f.exact(static_cast<double>(x[i])));
      if (off > worst) {
        worst = off;
        where = x[i];
      }
    }
    std::printf("%-5s %.3f ulp, at %.9g\n", f.name, worst, static_cast<double>(where));
    EXPECT_LE(worst, f.ulps) << f.name << " at " << where;
  }
}

TEST(Math, OrdinaryArgumentsStayWithinTheirUlps) {
  // Bit patterns are spread over exponents; here the range where models live.
  std::vector<float> x;
  for (int i = -400000; i <= 400000; ++i) x.push_back(static_cast<float>(i) * 3.1e-5f);
  for (const Function& f : kFunctions) {
    const std::vector<float> got = run(compile(unary(f.op)), x);
    double worst = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, ulps_off(got[i], f.exact(static_cast<double>(x[i]))));
    }
    std::printf("%-5s %.3f ulp\n", f.name, worst);
    EXPECT_LE(worst, f.ulps) << f.name;
  }
}

TEST(Math, ScalarsAndVectorsGiveTheSameBits) {
  const std::vector<float> x = bit_patterns(1000003);
  for (const Function& f : kFunctions) {
    const std::vector<float> vector = run(compile(unary(f.op)), x);
    for (const int width : {4, 16}) {
      const std::vector<float> other = run(compile(unary(f.op), width), x);
      EXPECT_EQ(std::memcmp(vector.data(), other.data(), vector.size() * 4), 0) << f.name << width;
    }
    std::vector<float> scalar(x.size());
    void* operands[2] = {const_cast<float*>(x.data()), scalar.data()};
    const int64_t strides[4] = {1, 0, 1, 0};
    const int64_t rows = static_cast<int64_t>(x.size());
    const plan::LoopCall call{operands, &rows, 1, strides, nullptr, 0, rows, nullptr};
    compile(unary_row(f.op))(&call);
    for (size_t i = 0; i < x.size(); ++i) {
      const bool same = std::bit_cast<uint32_t>(scalar[i]) == std::bit_cast<uint32_t>(vector[i]) ||
                        (std::isnan(scalar[i]) && std::isnan(vector[i]));
      ASSERT_TRUE(same) << f.name << " of " << x[i] << ": " << scalar[i] << ", " << vector[i];
    }
  }
}

TEST(Math, SignedZerosSurvive) {
  const std::vector<float> x{-0.0f, 0.0f};
  for (const LoopOp op : {LoopOp::tanh, LoopOp::erf, LoopOp::sin, LoopOp::sqrt, LoopOp::floor}) {
    const std::vector<float> got = run(compile(unary(op)), x);
    EXPECT_EQ(got[0], 0.0f);
    EXPECT_TRUE(std::signbit(got[0])) << static_cast<int>(op);
    EXPECT_FALSE(std::signbit(got[1])) << static_cast<int>(op);
  }
}

TEST(Math, PowerHasTheCasesOfC) {
  const std::vector<float> values{0.0f,  -0.0f,  1.0f,    -1.0f,      0.5f,       -0.5f,
                                  2.0f,  -2.0f,  3.0f,    -3.0f,      kInf,       -kInf,
                                  kNan,  1e-40f, -1e-40f, 1e38f,      -1e38f,     2.5f,
                                  -2.5f, 7.0f,   1e10f,   16777215.f, 16777216.f, 1.0000001f};
  std::vector<float> x, y;
  for (const float a : values) {
    for (const float b : values) {
      x.push_back(a);
      y.push_back(b);
    }
  }
  const std::vector<float> got = run(compile(binary(LoopOp::pow)), x, &y);
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::pow(static_cast<double>(x[i]), static_cast<double>(y[i]));
    EXPECT_LE(ulps_off(got[i], want), 1.0) << x[i] << " ^ " << y[i] << " = " << got[i];
    if (want != 0.0) continue;
    EXPECT_EQ(std::signbit(got[i]), std::signbit(want)) << x[i] << " ^ " << y[i];
  }
}

TEST(Math, PowerStaysWithinOneUlp) {
  std::vector<float> x, y;
  for (int i = 1; i < 400; ++i) {
    for (int j = -300; j < 300; ++j) {
      x.push_back(static_cast<float>(i) * 0.0173f);
      y.push_back(static_cast<float>(j) * 0.37f);
    }
  }
  for (const float beta : {0.9f, 0.95f, 0.99f, 0.999f, 0.9999f}) {  // what Adam asks for
    for (int t = 1; t <= 1000000; t += 1 + t / 50) {
      x.push_back(beta);
      y.push_back(static_cast<float>(t));
    }
  }
  const std::vector<float> got = run(compile(binary(LoopOp::pow)), x, &y);
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(
        worst, ulps_off(got[i], std::pow(static_cast<double>(x[i]), static_cast<double>(y[i]))));
  }
  std::printf("pow   %.3f ulp\n", worst);
  EXPECT_LE(worst, 1.0);
}

TEST(Math, FixedPowersAreProducts) {
  const std::vector<float> x = bit_patterns(10000019);
  for (const double exponent : {1.0, 2.0, 3.0}) {
    LoopBuilder b(0);
    b.store(b.op(LoopOp::pow, b.load(DType::f32), b.constant(DType::f32, exponent)), DType::f32);
    const std::vector<float> got = run(compile(b.loop), x);
    for (size_t i = 0; i < x.size(); ++i) {
      float want = x[i];
      for (int k = 1; k < static_cast<int>(exponent); ++k) want *= x[i];
      ASSERT_TRUE(got[i] == want || (std::isnan(got[i]) && std::isnan(want))) << x[i];
    }
  }
}

TEST(Math, MaximumAndMinimumPropagateNan) {
  const std::vector<float> x{kNan, 1.0f, kNan, -kInf, 2.0f, -0.0f, 5.0f, kInf, 3.0f};
  const std::vector<float> y{1.0f, kNan, kNan, 7.0f, -3.0f, 0.0f, 5.0f, 1.0f, -kInf};
  const std::vector<float> most = run(compile(binary(LoopOp::max)), x, &y);
  const std::vector<float> least = run(compile(binary(LoopOp::min)), x, &y);
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) || std::isnan(y[i])) {
      EXPECT_TRUE(std::isnan(most[i]) && std::isnan(least[i])) << i;
    } else {
      EXPECT_EQ(most[i], std::max(x[i], y[i])) << i;
      EXPECT_EQ(least[i], std::min(x[i], y[i])) << i;
    }
  }
  LoopBuilder b(0);  // against a constant, on either side
  const int v = b.load(DType::f32), zero = b.constant(DType::f32, 0.0);
  b.store(b.op(LoopOp::add, b.op(LoopOp::max, v, zero), b.op(LoopOp::min, zero, v)), DType::f32);
  const std::vector<float> sum = run(compile(b.loop), x);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(std::isnan(x[i]) ? std::isnan(sum[i]) : sum[i] == x[i]) << i;
  }
}

}  // namespace espalier::cpu
