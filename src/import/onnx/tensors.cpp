// An ONNX tensor holds its elements as raw little-endian bytes, as numbers in one of five typed lists, or in another
// file. Source: ONNX IR specification, "Tensor".
#include "import/onnx/tensors.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <onnx.pb.h>
#include <string_view>

#include "base/error.hpp"

namespace tenfold::onnx {
namespace {

static_assert(std::endian::native == std::endian::little, "raw data is little-endian");

struct TypeRow {
  std::string_view name;
  DType dtype = DType::undefined;
};
// Indexed by TensorProto::DataType.
constexpr std::array<TypeRow, 29> kTypes{{
    {"undefined"},
    {"float", DType::float32},
    {"uint8", DType::uint8},
    {"int8", DType::int8},
    {"uint16", DType::uint16},
    {"int16", DType::int16},
    {"int32", DType::int32},
    {"int64", DType::int64},
    {"string"},
    {"bool", DType::boolean},
    {"float16", DType::float16},
    {"double", DType::float64},
    {"uint32", DType::uint32},
    {"uint64", DType::uint64},
    {"complex64"},
    {"complex128"},
    {"bfloat16", DType::bfloat16},
    {"float8e4m3fn", DType::float8e4m3},
    {"float8e4m3fnuz"},
    {"float8e5m2"},
    {"float8e5m2fnuz"},
    {"uint4"},
    {"int4"},
    {"float4e2m1"},
    {"float8e8m0"},
    {"uint2"},
    {"int2"},
    {"float6e2m3"},
    {"float6e3m2"},
}};

// Raw data at least this large stays where the decoder put it; smaller data is copied to aligned memory.
constexpr std::size_t kBorrowBytes = 4096;
constexpr std::int64_t kMaxDim = std::int64_t{1} << 40;

Shape shape_of(const google::protobuf::RepeatedField<std::int64_t>& dims) {
  require(dims.size() <= kMaxRank, Code::unsupported, "the tensor has rank {}; at most {} is supported", dims.size(),
          kMaxRank);
  Shape shape(dims.begin(), dims.end());
  for (const std::int64_t dim : shape) {
    require(dim >= 0 && dim < kMaxDim, Code::invalid_model, "dimension {} of shape {} is out of range", dim,
            to_string(shape));
  }
  try {
    // Eight bytes each: the size in bytes does not overflow either.
    require(num_elements(shape) < kUnbounded / 8, Code::invalid_model, "shape {} has too many elements",
            to_string(shape));
  } catch (const Error& error) {
    throw Error(Code::invalid_model, error.message());
  }
  return shape;
}

/// Copies a typed list, checking that its count fits and that each number fits the element type.
template <typename From>
Tensor from_list(DType dtype, Shape shape, const google::protobuf::RepeatedField<From>& list) {
  const std::int64_t count = num_elements(shape);
  require(list.size() == count, Code::invalid_model, "shape {} needs {} elements, the tensor has {}", to_string(shape),
          count, list.size());
  Tensor tensor(dtype, std::move(shape));
  dispatch(dtype, [&]<typename T>() {
    auto out = tensor.as_mutable<T>();
    for (int i = 0; i < list.size(); ++i) {
      const From number = list.Get(i);
      auto& element = out[static_cast<std::size_t>(i)];
      if constexpr (std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>) {
        // Half-precision numbers are listed as their bits.
        require(number >= 0 && static_cast<std::uint64_t>(number) <= 0xffff, Code::invalid_model,
                "element {} is {}, which is no 16-bit pattern", i, number);
        element.bits = static_cast<std::uint16_t>(number);
      } else if constexpr (std::is_same_v<T, Float8E4M3>) {
        require(number >= 0 && static_cast<std::uint64_t>(number) <= 0xff, Code::invalid_model,
                "element {} is {}, which is no 8-bit pattern", i, number);
        element.bits = static_cast<std::uint8_t>(number);
      } else if constexpr (std::is_same_v<T, bool>) {
        element = number != 0;
      } else {
        if constexpr (std::is_integral_v<T> && std::is_integral_v<From>) {
          require(std::in_range<T>(number), Code::invalid_model, "element {} is {}, which does not fit in {}", i,
                  number, to_string(dtype));
        }
        element = static_cast<T>(number);
      }
    }
  });
  return tensor;
}

Tensor from_typed_fields(const TensorProto& proto, DType dtype, Shape shape) {
  switch (dtype) {
    case DType::float32:
      return from_list(dtype, std::move(shape), proto.float_data());
    case DType::float64:
      return from_list(dtype, std::move(shape), proto.double_data());
    case DType::int64:
      return from_list(dtype, std::move(shape), proto.int64_data());
    case DType::uint32:
    case DType::uint64:
      return from_list(dtype, std::move(shape), proto.uint64_data());
    default:
      return from_list(dtype, std::move(shape), proto.int32_data());
  }
}

Tensor from_raw(TensorProto& proto, DType dtype, Shape shape) {
  const std::size_t needed = static_cast<std::size_t>(num_elements(shape)) * size_of(dtype);
  require(proto.raw_data().size() == needed, Code::invalid_model, "{}{} needs {} bytes, the tensor has {}",
          to_string(dtype), to_string(shape), needed, proto.raw_data().size());
  if (dtype == DType::boolean) {
    // A bool in memory is 0 or 1; a file may hold anything.
    Tensor tensor(dtype, std::move(shape));
    auto* out = reinterpret_cast<std::uint8_t*>(tensor.mutable_data());
    for (std::size_t i = 0; i < needed; ++i) out[i] = proto.raw_data()[i] != 0 ? 1 : 0;
    return tensor;
  }
  if (needed >= kBorrowBytes) {
    const std::shared_ptr<const std::string> owner(proto.release_raw_data());
    if (reinterpret_cast<std::uintptr_t>(owner->data()) % size_of(dtype) == 0) {
      return Tensor(dtype, std::move(shape), owner->data(), owner);
    }
    Tensor tensor(dtype, std::move(shape));
    std::memcpy(tensor.mutable_data(), owner->data(), needed);
    return tensor;
  }
  Tensor tensor(dtype, std::move(shape));
  if (needed > 0) std::memcpy(tensor.mutable_data(), proto.raw_data().data(), needed);
  return tensor;
}

}  // namespace

DType dtype_of(int onnx_data_type) {
  const bool known = onnx_data_type > 0 && onnx_data_type < static_cast<int>(kTypes.size());
  require(known, Code::invalid_model, "element type {} does not exist", onnx_data_type);
  const TypeRow& row = kTypes[static_cast<std::size_t>(onnx_data_type)];
  require(row.dtype != DType::undefined, Code::unsupported,
          "element type {} is not supported; convert the model to one of float, float16, bfloat16, float8e4m3fn, "
          "double, bool and the integers of 8 to 64 bits",
          row.name);
  return row.dtype;
}

Tensor TensorReader::read(TensorProto& proto) {
  const auto known = done_.find(&proto);
  if (known != done_.end()) return known->second;
  Tensor tensor = decode(proto);
  done_.emplace(&proto, tensor);
  return tensor;
}

Tensor TensorReader::decode(TensorProto& proto) {
  const DType dtype = dtype_of(proto.data_type());
  require(!proto.has_segment(), Code::unsupported, "the tensor is one segment of a larger one");
  Shape shape = shape_of(proto.dims());
  if (proto.data_location() == TensorProto::EXTERNAL) {
    require(!proto.has_raw_data(), Code::invalid_model, "the tensor has data both inside and outside the model");
    Tensor tensor = external_.read(proto, dtype, std::move(shape));
    if (dtype != DType::boolean) return tensor;
    Tensor clean(dtype, tensor.shape());
    auto* out = reinterpret_cast<std::uint8_t*>(clean.mutable_data());
    for (std::size_t i = 0; i < tensor.size_bytes(); ++i) out[i] = tensor.data()[i] != std::byte{0} ? 1 : 0;
    return clean;
  }
  if (proto.has_raw_data()) return from_raw(proto, dtype, std::move(shape));
  return from_typed_fields(proto, dtype, std::move(shape));
}

Tensor TensorReader::read(SparseTensorProto& proto) {
  const auto known = done_.find(&proto);
  if (known != done_.end()) return known->second;
  const Tensor values = read(*proto.mutable_values());
  const Tensor indices = read(*proto.mutable_indices());
  Shape shape = shape_of(proto.dims());
  require(values.rank() == 1, Code::invalid_model, "the values of a sparse tensor have shape {}, expected one axis",
          to_string(values.shape()));
  const std::int64_t count = values.num_elements();
  const auto rank = static_cast<std::int64_t>(shape.size());
  const bool linear = indices.rank() == 1 && indices.shape()[0] == count;
  const bool by_axis = indices.rank() == 2 && indices.shape()[0] == count && indices.shape()[1] == rank;
  require(indices.dtype() == DType::int64 && (linear || by_axis), Code::invalid_model,
          "the indices of a sparse tensor with {} values and rank {} are {}{}, expected int64[{}] or int64[{}, {}]",
          count, rank, to_string(indices.dtype()), to_string(indices.shape()), count, count, rank);
  const std::int64_t total = num_elements(shape);
  require(total <= max_sparse_bytes_ / static_cast<std::int64_t>(size_of(values.dtype())), Code::unsupported,
          "a sparse tensor of shape {} would need more than {} bytes; sparse tensors are expanded", to_string(shape),
          max_sparse_bytes_);
  Tensor dense(values.dtype(), shape);
  std::byte* out = dense.mutable_data();
  const std::size_t size = size_of(values.dtype());
  const auto index = indices.as<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t position = 0;
    if (linear) {
      position = index[static_cast<std::size_t>(i)];
      require(position >= 0 && position < total, Code::invalid_model,
              "index {} of a sparse tensor lies outside its {} elements", position, total);
    } else {
      for (std::int64_t axis = 0; axis < rank; ++axis) {
        const std::int64_t at = index[static_cast<std::size_t>(i * rank + axis)];
        const std::int64_t dim = shape[static_cast<std::size_t>(axis)];
        require(at >= 0 && at < dim, Code::invalid_model, "index {} of a sparse tensor lies outside axis {} of size {}",
                at, axis, dim);
        position = position * dim + at;
      }
    }
    std::memcpy(out + static_cast<std::size_t>(position) * size, values.data() + static_cast<std::size_t>(i) * size,
                size);
  }
  done_.emplace(&proto, dense);
  return dense;
}

}  // namespace tenfold::onnx
