// SPDX-License-Identifier: Apache-2.0
#include "espalier/tensor/host_tensor.h"

#include <cstdlib>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier {

HostTensor::HostTensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), numel_(shape_.numel()) {
  const size_t size = (static_cast<size_t>(bytes()) + 63) / 64 * 64 + 64;
  void* memory = std::aligned_alloc(64, size);
  ESPALIER_CHECK(memory != nullptr, ErrorKind::device, "memory", "cannot allocate {} bytes for {}",
                 size, shape_.str());
  std::memset(memory, 0, size);
  owner_ = std::shared_ptr<void>(memory, std::free);
  data_ = memory;
}

HostTensor::HostTensor(DType dtype, Shape shape, void* data, std::shared_ptr<void> owner)
    : dtype_(dtype),
      shape_(std::move(shape)),
      numel_(shape_.numel()),
      data_(data),
      owner_(std::move(owner)) {}

double HostTensor::get(int64_t index) const {
  const auto i = static_cast<size_t>(index);
  switch (dtype_) {
    case DType::f32:
      return as<float>()[i];
    case DType::bf16:
      return from_bf16(as<uint16_t>()[i]);
    case DType::f16:
      return from_f16(as<uint16_t>()[i]);
    case DType::f64:
      return as<double>()[i];
    case DType::i32:
      return as<int32_t>()[i];
    case DType::i64:
      return static_cast<double>(as<int64_t>()[i]);
    case DType::u8:
      return as<uint8_t>()[i];
    case DType::boolean:
      return as<uint8_t>()[i] != 0 ? 1.0 : 0.0;
  }
  return 0.0;
}

void HostTensor::set(int64_t index, double value) {
  const auto i = static_cast<size_t>(index);
  switch (dtype_) {
    case DType::f32:
      as<float>()[i] = static_cast<float>(value);
      break;
    case DType::bf16:
      as<uint16_t>()[i] = to_bf16(static_cast<float>(round_to(dtype_, value)));
      break;
    case DType::f16:
      as<uint16_t>()[i] = to_f16(static_cast<float>(round_to(dtype_, value)));
      break;
    case DType::f64:
      as<double>()[i] = value;
      break;
    case DType::i32:
      as<int32_t>()[i] = static_cast<int32_t>(value);
      break;
    case DType::i64:
      as<int64_t>()[i] = static_cast<int64_t>(value);
      break;
    case DType::u8:
      as<uint8_t>()[i] = static_cast<uint8_t>(static_cast<int64_t>(value));
      break;
    case DType::boolean:
      as<uint8_t>()[i] = value != 0.0 ? 1 : 0;
      break;
  }
}

std::vector<double> HostTensor::to_doubles() const {
  std::vector<double> values(static_cast<size_t>(numel_));
  for (int64_t i = 0; i < numel_; ++i) values[static_cast<size_t>(i)] = get(i);
  return values;
}

HostTensor HostTensor::from_doubles(DType dtype, Shape shape, std::span<const double> values) {
  HostTensor tensor(dtype, std::move(shape));
  ESPALIER_CHECK(static_cast<int64_t>(values.size()) == tensor.numel(), ErrorKind::internal,
                 "tensor", "{} values for shape {}", values.size(), tensor.shape().str());
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.set(i, values[static_cast<size_t>(i)]);
  return tensor;
}

HostTensor HostTensor::clone() const {
  HostTensor copy(dtype_, shape_);
  std::memcpy(copy.data(), data_, static_cast<size_t>(bytes()));
  return copy;
}

}  // namespace espalier
