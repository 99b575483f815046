// Packing, casting and moving of call arguments, after the container half of torch/distributed/utils.py, torch 2.11.
// All functions map over the leaves of a `Value`; see value.cpp.
#include <c10/util/Backtrace.h>
#include <transformers/utils/distributed/container_utils.h>

#include <algorithm>
#include <set>

#include "utils/distributed/map_leaves.h"
#include "utils/distributed/side_stream.h"

namespace transformers {
namespace {

void check_unique(const std::set<std::string>& seen, const std::string& key) {
  TORCH_CHECK(!seen.contains(key), "the keyword '", key, "' is given twice");
}

PackedSequence with_data(const PackedSequence& sequence, const Value& data) {
  TORCH_CHECK(data.is_none() || data.kind() == Value::Kind::kTensor,
              "the data of a packed sequence can only be replaced by a tensor");
  return PackedSequence(data.is_none() ? sequence.data() : data.to<at::Tensor>(), sequence.batch_sizes(),
                        sequence.sorted_indices(), sequence.unsorted_indices());
}

/// Batch sizes remain on the CPU, where the recurrent layers need them.
template <typename Move>
PackedSequence moved(const PackedSequence& sequence, const Move& move) {
  const auto moved_if_there = [&](const at::Tensor& tensor) { return tensor.defined() ? move(tensor) : tensor; };
  return PackedSequence(move(sequence.data()), sequence.batch_sizes(), moved_if_there(sequence.sorted_indices()),
                        moved_if_there(sequence.unsorted_indices()));
}

template <typename Move>
Value moved(const Value& leaf, const Move& move) {
  if (leaf.kind() == Value::Kind::kTensor) {
    return move(leaf.to<at::Tensor>());
  }
  return leaf.kind() == Value::Kind::kPackedSequence ? Value(moved(leaf.to<PackedSequence>(), move)) : leaf;
}

Value to_value(const Kwargs& kwargs) {
  std::vector<Value::Item> items;
  for (const auto& [key, value] : kwargs) {
    items.emplace_back(key, value);
  }
  return Value::map(std::move(items));
}
Args to_args(const Value& tuple) { return {tuple.items().begin(), tuple.items().end()}; }
Kwargs to_named(const Value& map) {
  Kwargs kwargs;
  for (size_t i = 0; i < map.items().size(); i += 2) {
    kwargs.emplace_back(map.items()[i].to<std::string>(), map.items()[i + 1]);
  }
  return kwargs;
}

}  // namespace

PackedArguments pack_kwargs(Args args, Kwargs kwargs) {
  std::set<std::string> seen;
  for (const auto& [key, value] : kwargs) {
    check_unique(seen, key);
    seen.insert(key);
  }
  PackedArguments packed{.flat_args = std::move(args)};
  for (auto& [key, value] : kwargs) {
    packed.kwarg_keys.push_back(std::move(key));
    packed.flat_args.push_back(std::move(value));
  }
  return packed;
}

Arguments unpack_kwargs(Args flat_args, std::vector<std::string> kwarg_keys) {
  TORCH_CHECK(kwarg_keys.size() <= flat_args.size(), "there must be a value for each keyword, got ", kwarg_keys.size(),
              " keywords and ", flat_args.size(), " values");
  std::set<std::string> seen;
  for (const auto& key : kwarg_keys) {
    check_unique(seen, key);
    seen.insert(key);
  }
  const auto positional = flat_args.size() - kwarg_keys.size();
  Arguments arguments{.args = std::move(flat_args)};
  for (size_t i = 0; i < kwarg_keys.size(); ++i) {
    arguments.kwargs.emplace_back(std::move(kwarg_keys[i]), std::move(arguments.args[positional + i]));
  }
  arguments.args.resize(positional);
  return arguments;
}

Value apply_to_tensors(const std::function<Value(const at::Tensor&)>& fn, const Value& container) {
  return map_leaves(container, /*with_keys=*/false, [&](const Value& leaf) -> Value {
    if (leaf.kind() == Value::Kind::kTensor) {
      return fn(leaf.to<at::Tensor>());
    }
    if (leaf.kind() == Value::Kind::kPackedSequence) {
      const auto sequence = leaf.to<PackedSequence>();
      return with_data(sequence, fn(sequence.data()));
    }
    return leaf;
  });
}

std::vector<at::Tensor> tensors_in(const Value& container) {
  std::vector<at::Tensor> tensors;
  apply_to_tensors(
      [&](const at::Tensor& tensor) {
        tensors.push_back(tensor);
        return tensor;
      },
      container);
  return tensors;
}

Arguments cast_forward_inputs(std::optional<c10::ScalarType> dtype, Args args, Kwargs kwargs) {
  if (!dtype) {
    return {std::move(args), std::move(kwargs)};
  }
  const auto cast = [&](const at::Tensor& tensor) { return tensor.is_floating_point() ? tensor.to(*dtype) : tensor; };
  return {to_args(apply_to_tensors(cast, Value::tuple(std::move(args)))),
          to_named(apply_to_tensors(cast, to_value(kwargs)))};
}

Value recursive_to(const Value& inputs, c10::Device target_device, bool use_side_stream_for_tensor_copies) {
  const auto move = [&](const at::Tensor& tensor) {
    const bool to_accelerator = tensor.is_cpu() && !target_device.is_cpu() && !target_device.is_meta();
    return use_side_stream_for_tensor_copies && to_accelerator ? copied_on_side_stream(tensor, target_device)
                                                               : tensor.to(target_device);
  };
  return map_leaves(inputs, /*with_keys=*/true, [&](const Value& leaf) { return moved(leaf, move); });
}

MovedArguments to_kwargs(const Args& inputs, const Kwargs& kwargs, c10::Device target_device,
                         bool use_side_stream_for_tensor_copies) {
  const auto move = [&](const Value& value) {
    return recursive_to(value, target_device, use_side_stream_for_tensor_copies);
  };
  MovedArguments moved;
  if (!inputs.empty()) {
    moved.inputs.push_back(to_args(move(Value::tuple(inputs))));
  }
  if (!kwargs.empty()) {
    moved.kwargs.push_back(to_named(move(to_value(kwargs))));
  }
  const auto calls = std::max(moved.inputs.size(), moved.kwargs.size());
  moved.inputs.resize(calls);
  moved.kwargs.resize(calls);
  return moved;
}

void p_assert(bool condition, std::string_view message, bool raise_assertion_error) {
  if (condition) {
    return;
  }
  TORCH_WARN(message, "\n", c10::get_backtrace(/*frames_to_skip=*/1));
  TORCH_CHECK(!raise_assertion_error, message);
}

}  // namespace transformers
