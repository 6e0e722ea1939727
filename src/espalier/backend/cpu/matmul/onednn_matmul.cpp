// SPDX-License-Identifier: Apache-2.0
// The matmul primitive of oneDNN, with the scratchpad in our memory and B reordered to the
// library's blocked layout where it asks for one.
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "espalier/backend/cpu/matmul/implementations.h"
#include "espalier/base/error.h"
#include "espalier/tensor/convert.h"

namespace espalier::cpu {
namespace {

using dnnl::memory;

/// oneDNN takes its number of threads from OpenMP's current setting.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
    changed_ = threads != before_;
  }
  ~ThreadScope() {
    if (changed_) omp_set_num_threads(before_);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
  bool changed_;
};

/// Rows of the product whose layout of B all others take.
constexpr int64_t kCommonRows = 1024;

memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

bool batched(const MatmulDesc& desc) { return desc.batch() > 1; }

memory::dims sizes(const MatmulDesc& desc, int64_t rows, int64_t cols) {
  if (batched(desc)) return {desc.batch_outer, desc.batch_inner, rows, cols};
  return {rows, cols};
}

memory::desc layout_of(const MatmulDesc& desc, const MatrixLayout& layout, DType dtype,
                       int64_t rows, int64_t cols) {
  // Strides of size-1 dimensions are free; oneDNN recognises layouts by dense ones.
  const int64_t row = rows == 1 ? cols : layout.row;
  const int64_t col = cols == 1 ? (layout.row == 1 ? rows : 1) : layout.col;
  memory::dims strides = {row, col};
  if (batched(desc)) {
    strides = {desc.batch_outer == 1 ? desc.batch_inner * rows * cols : layout.outer,
               desc.batch_inner == 1 ? rows * cols : layout.inner, row, col};
  }
  return {sizes(desc, rows, cols), type_of(dtype), strides};
}

int64_t aligned(size_t bytes) { return static_cast<int64_t>((bytes + 63) / 64 * 64); }

class OnednnMatmul final : public Matmul {
 public:
  OnednnMatmul(const MatmulDesc& desc, int threads)
      : Matmul(desc), threads_(threads), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const ThreadScope scope(threads);
    const memory::desc a = layout_of(desc, desc.a, desc.a_dtype, desc.m, desc.k);
    const memory::desc plain = layout_of(desc, desc.b, desc.b_dtype, desc.k, desc.n);
    const memory::desc c = layout_of(desc, desc.c, desc.c_dtype, desc.m, desc.n);
    memory::desc bias;
    if (desc.bias) {
      memory::dims dims = sizes(desc, 1, desc.n);
      if (batched(desc)) dims[0] = dims[1] = 1;
      memory::dims strides(dims.size(), desc.n);
      strides.back() = 1;
      bias = memory::desc(dims, type_of(desc.bias_dtype), strides);
    }
    dnnl::post_ops post;
    if (desc.accumulate) post.append_sum(1.0f);
    using dnnl::algorithm;
    if (desc.activation != Activation::none) {
      post.append_eltwise(1.0f,
                          desc.activation == Activation::relu       ? algorithm::eltwise_relu
                          : desc.activation == Activation::gelu_erf ? algorithm::eltwise_gelu_erf
                                                                    : algorithm::eltwise_gelu_tanh,
                          0.0f, 0.0f);
    }
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_post_ops(post);
    const auto describe_with = [&](const memory::desc& weights) {
      return desc.bias ? dnnl::matmul::primitive_desc({a, weights, bias, c}, attributes, engine_)
                       : dnnl::matmul::primitive_desc({a, weights, c}, attributes, engine_);
    };
    const memory::desc free_choice(sizes(desc, desc.k, desc.n), type_of(desc.b_dtype),
                                   memory::format_tag::any);
    description_ = describe_with(batched(desc) ? plain : free_choice);
    if (desc.b_constant && !batched(desc)) take_common_layout(desc, free_choice, describe_with);
    const memory::desc wanted = description_.weights_desc();
    reorders_ = wanted != plain;
    packed_bytes_ = reorders_ ? aligned(wanted.get_size()) : 0;
    scratchpad_bytes_ = aligned(description_.scratchpad_desc().get_size());
    matmul_ = dnnl::matmul(description_);

    a_ = memory(a, engine_, nullptr);
    b_ = memory(wanted, engine_, nullptr);
    c_ = memory(c, engine_, nullptr);
    scratchpad_ = memory(description_.scratchpad_desc(), engine_, nullptr);
    arguments_ = {{DNNL_ARG_SRC, a_.get()},
                  {DNNL_ARG_WEIGHTS, b_.get()},
                  {DNNL_ARG_DST, c_.get()},
                  {DNNL_ARG_SCRATCHPAD, scratchpad_.get()}};
    if (desc.bias) {
      bias_ = memory(bias, engine_, nullptr);
      arguments_.push_back({DNNL_ARG_BIAS, bias_.get()});
    }
    if (reorders_) {
      plain_ = memory(plain, engine_, nullptr);
      dnnl::primitive_attr user_memory;
      user_memory.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      const dnnl::reorder::primitive_desc reorder(engine_, plain, engine_, wanted, user_memory);
      reorder_ = dnnl::reorder(reorder);
      reorder_scratchpad_ = memory(reorder.scratchpad_desc(), engine_, nullptr);
      scratchpad_bytes_ =
          std::max(scratchpad_bytes_, aligned(reorder.scratchpad_desc().get_size()));
      reorder_arguments_ = {{DNNL_ARG_FROM, plain_.get()},
                            {DNNL_ARG_TO, b_.get()},
                            {DNNL_ARG_SCRATCHPAD, reorder_scratchpad_.get()}};
    }
  }

  int64_t scratch_bytes() const override { return packed_bytes_ + scratchpad_bytes_; }

  void run(const void* a, const void* b, const void* bias, void* c, void* scratch) override {
    if (!reorders_) return execute(a, b, bias, c, scratch);
    void* packed = static_cast<char*>(scratch) + scratchpad_bytes_;
    {
      const ThreadScope scope(threads_);
      plain_.set_data_handle(const_cast<void*>(b));
      b_.set_data_handle(packed);
      reorder_scratchpad_.set_data_handle(scratch);
      run_primitive(reorder_, reorder_arguments_);
    }
    execute(a, packed, bias, c, scratch);
  }

  int64_t packed_b_bytes() const override { return desc_.b_constant ? packed_bytes_ : 0; }
  std::string packed_layout() const override {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("onednn {}.{} {} {} x {}, rows {}", version->major, version->minor,
                       espalier::name(desc_.b_dtype), desc_.k, desc_.n,
                       common_layout_ ? kCommonRows : desc_.m);
  }
  void pack_b(const void* b, const void*, DType from, void* packed, void*) const override {
    HostTensor wide;
    if (from == DType::f16) {  // which the library does not reorder
      const Shape all{1 + (desc_.k - 1) * desc_.b.row + (desc_.n - 1) * desc_.b.col};
      wide = HostTensor(DType::f32, all);
      convert_values({from, all, const_cast<void*>(b), nullptr}, 0, wide);
      b = wide.data();
      from = DType::f32;
    }
    memory plain(layout_of(desc_, desc_.b, from, desc_.k, desc_.n), engine_, const_cast<void*>(b));
    memory wanted(description_.weights_desc(), engine_, packed);
    dnnl::stream stream(engine_);
    dnnl::reorder(plain, wanted).execute(stream, plain, wanted);
    stream.wait();
  }

  void run_packed(const void* a, const void* packed, const void* bias, void* c,
                  void* scratch) override {
    execute(a, packed, bias, c, scratch);
  }

  std::string plan() const {
    return fmt::format("onednn {}{}", description_.impl_info_str(),
                       reorders_ ? ", B reordered" : "");
  }

 private:
  /// B laid out as a product of kCommonRows rows wants it, where this one takes that too: then
  /// products with any number of rows share it.
  template <typename Describe>
  void take_common_layout(const MatmulDesc& desc, const memory::desc& free_choice,
                          const Describe& describe_with) {
    MatmulDesc common = desc;
    common.m = kCommonRows;
    const dnnl::matmul::primitive_desc wide(
        {layout_of(common, desc.a.col == 1 ? row_major(desc.k) : transposed(kCommonRows),
                   desc.a_dtype, kCommonRows, desc.k),
         free_choice, layout_of(common, row_major(desc.n), desc.c_dtype, kCommonRows, desc.n)},
        engine_);
    try {
      description_ = describe_with(wide.weights_desc());
      common_layout_ = true;
    } catch (const dnnl::error&) {
      // The free choice stays.
    }
  }

  /// By the C interface: the C++ one makes a list of the arguments at every call.
  void run_primitive(const dnnl::primitive& primitive,
                     const std::vector<dnnl_exec_arg_t>& arguments) {
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive.get(), stream_.get(), static_cast<int>(arguments.size()),
                               arguments.data()),
        "could not execute a primitive");
  }

  void execute(const void* a, const void* b, const void* bias, void* c, void* scratch) {
    const ThreadScope scope(threads_);
    a_.set_data_handle(const_cast<void*>(a));
    b_.set_data_handle(const_cast<void*>(b));
    if (desc_.bias) bias_.set_data_handle(const_cast<void*>(bias));
    c_.set_data_handle(c);
    scratchpad_.set_data_handle(scratch);
    run_primitive(matmul_, arguments_);
  }

  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul::primitive_desc description_;
  dnnl::matmul matmul_;
  dnnl::reorder reorder_;
  bool reorders_ = false;
  bool common_layout_ = false;  // of B: it does not depend on m
  int64_t packed_bytes_ = 0;
  int64_t scratchpad_bytes_ = 0;
  memory a_, b_, bias_, c_, plain_, scratchpad_, reorder_scratchpad_;
  std::vector<dnnl_exec_arg_t> arguments_, reorder_arguments_;
};

}  // namespace

std::string onednn_declines(const MatmulDesc& desc, Isa isa) {
  if (desc.activation == Activation::swiglu) return "no gated products";
  if (desc.a_dtype != desc.b_dtype) return "A and B differ in type";
  if (desc.a_dtype == DType::f16) return "no f16";
  if (desc.a_dtype == DType::bf16 && isa != Isa::avx512_bf16) {
    return fmt::format("no bf16 under {}", name(isa));
  }
  if (desc.bias && desc.bias_dtype != DType::f32 && desc.bias_dtype != desc.a_dtype) {
    return "bias of another type";
  }
  const auto plain = [](const MatrixLayout& layout, int64_t rows, int64_t cols) {
    return layout.col == 1 || cols == 1 || layout.row == 1 || rows == 1;
  };
  if (!plain(desc.a, desc.m, desc.k) || !plain(desc.b, desc.k, desc.n)) {
    return "an input has neither contiguous rows nor columns";
  }
  if ((desc.c.col != 1 && desc.n > 1) || (desc.c.row < desc.n && desc.m > 1)) {
    return "C's rows are not contiguous";
  }
  return "";
}

MatmulPlan make_onednn_matmul(const MatmulDesc& desc, Isa, int threads) {
  try {
    auto matmul = std::make_unique<OnednnMatmul>(desc, threads);
    std::string text = matmul->plan();
    return {std::move(matmul), std::move(text)};
  } catch (const dnnl::error& error) {
    fail(ErrorKind::unsupported, "matmul", "oneDNN refuses {}: {}", desc.str(), error.what());
  }
}

}  // namespace espalier::cpu
