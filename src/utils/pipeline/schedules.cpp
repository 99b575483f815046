// Mirrors ScheduleGPipe and Schedule1F1B of distributed/pipelining/schedules.py, torch 2.11. Deviations: every rank is
// called with the whole batch and gets the loss, which weighs tokens and not micro-batches.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <transformers/utils/modeling/losses.h>
#include <transformers/utils/pipeline/schedules.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "utils/distributed/internal/agreement.h"

namespace transformers {
namespace {

using Kind = PipelineAction::Kind;

constexpr int kTags = 65535;  // one for each micro-batch in transit between two stages; the last one is for embeddings
constexpr int kEmbeddingsTag = kTags;

int tag_of(int64_t microbatch) { return static_cast<int>(microbatch % kTags); }

/// The rows of a tensor for one micro-batch; a tensor with one row for the whole batch is returned unchanged.
at::Tensor rows_of(const at::Tensor& tensor, int64_t batch, int64_t microbatch, int64_t rows) {
  return tensor.defined() && tensor.dim() > 0 && tensor.size(0) == batch ? tensor.narrow(0, microbatch * rows, rows)
                                                                         : tensor;
}

void check_call(const ModelInputs& inputs, const CausalLMOptions& options, int64_t n_microbatches) {
  TORCH_CHECK(inputs.input_ids.defined() && inputs.input_ids.dim() == 2 && !inputs.inputs_embeds.defined(),
              "a pipeline takes input_ids [batch, seq]");
  TORCH_CHECK(!inputs.past_key_values && !inputs.output_attentions && !inputs.output_hidden_states,
              "a pipeline keeps no cache and returns neither attentions nor hidden states");
  TORCH_CHECK(options.labels.defined() != options.shift_labels.defined(),
              "a pipeline takes labels or shift_labels, for the loss");
  TORCH_CHECK(options.logits_to_keep == 0 && !options.positions_to_keep.defined(), "a pipeline keeps all positions");
  const auto& labels = options.labels.defined() ? options.labels : options.shift_labels;
  TORCH_CHECK(labels.sizes() == inputs.input_ids.sizes(), "labels must have shape ", inputs.input_ids.sizes(), ", got ",
              labels.sizes());
  TORCH_CHECK(inputs.input_ids.size(0) % n_microbatches == 0, "a batch of ", inputs.input_ids.size(0),
              " rows cannot be split evenly into ", n_microbatches, " micro-batches");
}

std::string description(const ModelInputs& inputs, int64_t n_microbatches, const std::vector<PipelineAction>& actions) {
  const auto backwards =
      std::count_if(actions.begin(), actions.end(), [](const auto& action) { return action.kind == Kind::kBackward; });
  std::ostringstream text;
  text << "input_ids " << inputs.input_ids.sizes() << " in " << n_microbatches << " micro-batches"
       << (backwards > 0 ? " with gradients" : "");
  return text.str();
}

/// An error text of a rank begins with this character.
constexpr char kComplaint = '!';

/// Throws on all ranks if one of them was called wrongly, or if the calls differ.
void agree_on_call(const ProcessGroup& group, const ModelInputs& inputs, const CausalLMOptions& options,
                   int64_t n_microbatches, const std::vector<PipelineAction>& actions) {
  std::string own;
  try {
    check_call(inputs, options, n_microbatches);
    own = description(inputs, n_microbatches, actions);
  } catch (const c10::Error& error) {
    own = kComplaint + std::string(error.what_without_backtrace());
  }
  const auto texts = exchange_texts(group, own);
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    TORCH_CHECK(texts[rank].front() != kComplaint, "pipeline: rank ", rank, " of ", texts.size(), ": ",
                texts[rank].substr(1));
  }
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    TORCH_CHECK(texts[rank] == texts[0], "pipeline: ranks disagree: rank 0 runs ", texts[0], ", rank ", rank, " runs ",
                texts[rank]);
  }
}

double counted_labels(const CausalLMOptions& options) {
  return options.num_items_in_batch.value_or(
      static_cast<double>(next_token_labels({.labels = options.labels, .shift_labels = options.shift_labels})
                              .ne(-100)
                              .sum()
                              .item<int64_t>()));
}

/// Messages that are being sent; their tensors are freed when a send has completed.
class Sends {
 public:
  explicit Sends(const ProcessGroup& group) : group_(group) {}

  void send(const at::Tensor& tensor, int64_t to, int64_t microbatch) {
    give_back_completed();
    auto message = tensor.detach().to(group_.device()).contiguous();
    const auto work = group_.send(message, to, tag_of(microbatch));
    under_way_.emplace_back(std::move(message), work);
  }

  void wait() {
    for (const auto& [message, work] : under_way_) {
      work.wait();
    }
    under_way_.clear();
  }

 private:
  void give_back_completed() {
    std::erase_if(under_way_, [](const auto& sent) {
      if (sent.second.is_completed()) {
        sent.second.wait();  // a completed send may have failed
        return true;
      }
      return false;
    });
  }

  const ProcessGroup& group_;
  std::vector<std::pair<at::Tensor, Work>> under_way_;
};

/// Adds the gradients that the first and the last stage computed for the table they share. Both get the same sum.
void sum_shared_gradient(const PipelineStage& stage, at::Tensor table) {
  const auto& group = stage.group();
  const auto other = stage.is_first() ? stage.num_stages() - 1 : 0;
  const auto own = (table.grad().defined() ? table.grad() : at::zeros_like(table)).to(group.device()).contiguous();
  const auto theirs = at::empty_like(own);
  const auto sent = group.send(own, other, kEmbeddingsTag);
  group.recv(theirs, other, kEmbeddingsTag).wait();
  sent.wait();
  table.mutable_grad() = (own + theirs).to(table.device());
}

}  // namespace

std::vector<PipelineAction> gpipe_actions(int64_t n_microbatches) {
  std::vector<PipelineAction> actions;
  for (const auto kind : {Kind::kForward, Kind::kBackward}) {
    for (int64_t i = 0; i < n_microbatches; ++i) {
      actions.push_back({kind, i});
    }
  }
  return actions;
}

std::vector<PipelineAction> one_f_one_b_actions(int64_t stage_index, int64_t num_stages, int64_t n_microbatches) {
  const auto ahead = std::min(n_microbatches, num_stages - stage_index);
  std::vector<PipelineAction> actions;
  for (int64_t i = 0; i < n_microbatches + ahead; ++i) {
    if (i >= ahead) {
      actions.push_back({Kind::kBackward, i - ahead});
    }
    if (i < n_microbatches) {
      actions.push_back({Kind::kForward, i});
    }
  }
  return actions;
}

/// A batch while it passes through this stage.
struct PipelineSchedule::Batch {
  ModelInputs inputs_of(int64_t microbatch) const {
    auto part = inputs;
    for (auto* tensor : {&part.input_ids, &part.attention_mask, &part.position_ids, &part.token_type_ids}) {
      *tensor = rows_of(*tensor, batch, microbatch, rows);
    }
    return part;
  }
  CausalLMOptions options_of(int64_t microbatch) const {
    auto part = options;
    part.labels = rows_of(part.labels, batch, microbatch, rows);
    part.shift_labels = rows_of(part.shift_labels, batch, microbatch, rows);
    return part;
  }

  const ModelInputs& inputs;
  CausalLMOptions options;  // with the number of labels that the loss is divided by
  int64_t batch, rows;
  Sends sends;
  at::Tensor loss;  // fp32 []: on the last stage, of the micro-batches so far
};

PipelineSchedule::PipelineSchedule(PipelineStage stage, int64_t n_microbatches, std::vector<PipelineAction> actions)
    : stage_(std::move(stage)), n_microbatches_(n_microbatches), actions_(std::move(actions)) {
  TORCH_CHECK(n_microbatches > 0, "a pipeline needs at least one micro-batch, got ", n_microbatches);
}

void PipelineSchedule::forward(Batch& batch, int64_t microbatch) {
  Live live;
  if (!stage_.is_first()) {
    const std::vector<int64_t> sizes{batch.rows, batch.inputs.input_ids.size(1),
                                     stage_.model().config().get_hidden_size()};
    const auto received =
        at::empty(sizes, at::TensorOptions().dtype(stage_.model().dtype()).device(stage_.group().device()));
    stage_.group().recv(received, stage_.stage_index() - 1, tag_of(microbatch)).wait();
    live.input = received.to(stage_.device()).set_requires_grad(at::GradMode::is_enabled());
  }
  live.output = stage_.forward_one_chunk(live.input, batch.inputs_of(microbatch), batch.options_of(microbatch));
  if (stage_.is_last()) {
    batch.loss += live.output.detach();
  } else {
    batch.sends.send(live.output.to(stage_.model().dtype()), stage_.stage_index() + 1, microbatch);
  }
  if (at::GradMode::is_enabled()) {
    live_[microbatch] = std::move(live);
    most_live_ = std::max(most_live_, static_cast<int64_t>(live_.size()));
  }
}

void PipelineSchedule::backward(Batch& batch, int64_t microbatch) {
  const auto live = std::move(live_.extract(microbatch).mapped());
  at::Tensor gradient;
  if (!stage_.is_last()) {
    gradient = at::empty(
        live.output.sizes(),
        live.output.options().dtype(stage_.model().dtype()).device(stage_.group().device()).requires_grad(false));
    stage_.group().recv(gradient, stage_.stage_index() + 1, tag_of(microbatch)).wait();
    gradient = gradient.to(live.output.options().requires_grad(false));
  }
  if (live.output.requires_grad()) {
    torch::autograd::backward({live.output}, {gradient});
  }
  if (!stage_.is_first()) {
    batch.sends.send(live.input.grad(), stage_.stage_index() - 1, microbatch);
  }
}

at::Tensor PipelineSchedule::run(const ModelInputs& inputs, const CausalLMOptions& options,
                                 const std::vector<PipelineAction>& actions) {
  const auto& group = stage_.group();
  agree_on_call(group, inputs, options, n_microbatches_, actions);
  live_.clear();
  most_live_ = 0;
  const auto rows = inputs.input_ids.size(0);
  Batch batch{inputs,       options,
              rows,         rows / n_microbatches_,
              Sends(group), at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(stage_.device()))};
  batch.options.num_items_in_batch = counted_labels(options);
  for (const auto& action : actions) {
    action.kind == Kind::kForward ? forward(batch, action.microbatch) : backward(batch, action.microbatch);
  }
  batch.sends.wait();
  auto loss = batch.loss.to(group.device());
  group.broadcast(loss, stage_.num_stages() - 1).wait();
  return loss.to(stage_.device());
}

at::Tensor PipelineSchedule::step(const ModelInputs& inputs, const CausalLMOptions& options) {
  const at::AutoGradMode with_gradients(true);
  auto table = stage_.shared_embeddings();
  if (!table.defined() || !table.requires_grad()) {
    return run(inputs, options, actions_);
  }
  // The earlier gradient is set aside, because it is already a sum over both stages.
  const auto earlier = std::exchange(table.mutable_grad(), at::Tensor());
  auto loss = run(inputs, options, actions_);
  sum_shared_gradient(stage_, table);
  if (earlier.defined()) {
    table.mutable_grad() = table.grad() + earlier;
  }
  return loss;
}

at::Tensor PipelineSchedule::eval(const ModelInputs& inputs, const CausalLMOptions& options) {
  const at::NoGradGuard no_gradients;
  std::vector<PipelineAction> forwards(actions_);
  std::erase_if(forwards, [](const auto& action) { return action.kind == Kind::kBackward; });
  return run(inputs, options, forwards);
}

ScheduleGPipe::ScheduleGPipe(const PipelineStage& stage, int64_t n_microbatches)
    : PipelineSchedule(stage, n_microbatches, gpipe_actions(n_microbatches)) {}

Schedule1F1B::Schedule1F1B(const PipelineStage& stage, int64_t n_microbatches)
    : PipelineSchedule(stage, n_microbatches,
                       one_f_one_b_actions(stage.stage_index(), stage.num_stages(), n_microbatches)) {}

}  // namespace transformers
