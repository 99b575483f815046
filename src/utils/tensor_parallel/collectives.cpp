#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <transformers/utils/tensor_parallel/collectives.h>

#include <algorithm>
#include <utility>

namespace transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The arguments of forward that backward needs.
struct Saved : torch::CustomClassHolder {
  explicit Saved(ProcessGroup of, std::vector<Part> with = {}) : group(std::move(of)), parts(std::move(with)) {}
  const Part& own() const { return parts[static_cast<size_t>(group.rank())]; }

  ProcessGroup group;
  std::vector<Part> parts;
};

template <typename... Arguments>
void save(AutogradContext* context, Arguments&&... arguments) {
  context->saved_data["saved"] =
      c10::IValue::make_capsule(c10::make_intrusive<Saved>(std::forward<Arguments>(arguments)...));
}

c10::intrusive_ptr<Saved> saved(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule());
}

at::Tensor summed(const at::Tensor& tensor, const ProcessGroup& group) {
  auto sum = tensor.clone(at::MemoryFormat::Contiguous);
  group.all_reduce(sum).wait();
  return sum;
}

struct CopyToGroup : torch::autograd::Function<CopyToGroup> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const ProcessGroup& group) {
    save(context, group);
    return input;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {summed(gradients[0], saved(context)->group), {}};
  }
};

struct ReduceFromGroup : torch::autograd::Function<ReduceFromGroup> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& input, const ProcessGroup& group) {
    return summed(input, group);
  }
  static variable_list backward(AutogradContext*, const variable_list& gradients) { return {gradients[0], {}}; }
};

/// Parts of different length are padded to the longest one, which is the first.
at::Tensor gathered(const at::Tensor& input, const std::vector<Part>& parts, const ProcessGroup& group) {
  const auto longest = parts.front().length;
  const auto sent = at::constant_pad_nd(input, {0, longest - input.size(-1)}).contiguous();
  auto sizes = sent.sizes().vec();
  sizes.insert(sizes.begin(), group.size());
  const auto received = at::empty(sizes, sent.options());
  group.all_gather_into_tensor(received, sent).wait();
  std::vector<at::Tensor> pieces;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    pieces.push_back(received[static_cast<int64_t>(rank)].narrow(-1, 0, parts[rank].length));
  }
  return at::cat(pieces, -1);
}

struct GatherFromGroup : torch::autograd::Function<GatherFromGroup> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const std::vector<Part>& parts,
                            const ProcessGroup& group) {
    save(context, group, parts);
    return gathered(input, parts, group);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto own = saved(context)->own();
    return {gradients[0].narrow(-1, own.start, own.length), {}, {}};
  }
};

struct ShareRows : torch::autograd::Function<ShareRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& parameter, const std::vector<Part>& parts,
                            const ProcessGroup& group) {
    save(context, group, parts);
    return parameter;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto kept = saved(context);
    const auto own = kept->own();
    auto sizes = gradients[0].sizes().vec();
    for (const auto& part : kept->parts) {
      sizes[0] = std::max(sizes[0], part.start + part.length);
    }
    const auto all = at::zeros(sizes, gradients[0].options());
    all.narrow(0, own.start, own.length).copy_(gradients[0]);
    kept->group.all_reduce(all).wait();
    return {all.narrow(0, own.start, own.length).clone(), {}, {}};
  }
};

bool is_part_of_graph(const at::Tensor& tensor) { return at::GradMode::is_enabled() && tensor.requires_grad(); }

}  // namespace

std::vector<Part> even_parts(int64_t full, int64_t ranks) {
  TORCH_CHECK(full >= 0 && ranks > 0, "even_parts: cannot split ", full, " entries over ", ranks, " ranks");
  std::vector<Part> parts;
  int64_t start = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const auto length = full / ranks + (rank < full % ranks ? 1 : 0);
    parts.push_back({start, length});
    start += length;
  }
  return parts;
}

at::Tensor copy_to_group(const at::Tensor& input, const ProcessGroup& group) {
  return is_part_of_graph(input) ? CopyToGroup::apply(input, group) : input;
}

at::Tensor reduce_from_group(const at::Tensor& input, const ProcessGroup& group) {
  return ReduceFromGroup::apply(input, group);
}

at::Tensor gather_from_group(const at::Tensor& input, int64_t full, const ProcessGroup& group) {
  const auto parts = even_parts(full, group.size());
  const auto own = parts[static_cast<size_t>(group.rank())].length;
  TORCH_CHECK(input.dim() > 0 && input.size(-1) == own, "gather_from_group: rank ", group.rank(), " of ", group.size(),
              " has ", own, " of ", full, " entries of the last dimension, got ", input.sizes());
  return GatherFromGroup::apply(input, parts, group);
}

at::Tensor share_rows(const at::Tensor& parameter, const std::vector<Part>& parts, const ProcessGroup& group) {
  TORCH_CHECK(static_cast<int64_t>(parts.size()) == group.size(), "share_rows: there must be one part for each of ",
              group.size(), " ranks, got ", parts.size());
  const auto own = parts[static_cast<size_t>(group.rank())].length;
  TORCH_CHECK(parameter.dim() > 0 && parameter.size(0) == own, "share_rows: rank ", group.rank(), " of ", group.size(),
              " has ", own, " rows, got ", parameter.sizes());
  return is_part_of_graph(parameter) ? ShareRows::apply(parameter, parts, group) : parameter;
}

}  // namespace transformers
