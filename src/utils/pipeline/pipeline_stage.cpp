// Mirrors PipelineStage of distributed/pipelining/stage.py, torch 2.11. Deviations: a stage is a range of blocks of a
// causal language model whose parameters keep their names; tied embeddings between the first stage and the last work.
#include <ATen/ATen.h>
#include <transformers/utils/distributed/together.h>
#include <transformers/utils/pipeline/pipeline_stage.h>

#include <sstream>
#include <unordered_set>

#include "utils/distributed/internal/agreement.h"

namespace transformers {
namespace {

/// The values that must be equal on all ranks.
std::string description(const CausalLM& model) {
  const auto& config = model.config();
  std::ostringstream text;
  text << model.architecture() << " of " << config.get_num_hidden_layers() << " blocks, " << config.get_hidden_size()
       << " wide, " << config.vocab_size << " tokens, " << model.dtype()
       << (config.tie_word_embeddings ? ", tied embeddings" : "");
  return text.str();
}

/// A stage's own tensors by their names in the model; a tied tensor is listed under any of its names.
std::unordered_set<const void*> tensors_of_stage(const CausalLM& model, const DeviceMap& map) {
  std::unordered_set<const void*> tensors;
  for (const auto& parameter : model.named_parameters()) {
    if (!place_of(map, parameter.key()).is_meta()) {
      tensors.insert(parameter->unsafeGetTensorImpl());
    }
  }
  return tensors;
}

void check_values(const CausalLM& model, const std::unordered_set<const void*>& own) {
  std::optional<c10::Device> device;
  for (const auto& parameter : model.named_parameters()) {
    if (!own.contains(parameter->unsafeGetTensorImpl())) {
      continue;
    }
    TORCH_CHECK(!parameter->is_meta(), "PipelineStage: ", parameter.key(), " has no values");
    TORCH_CHECK(parameter->device() == device.value_or(parameter->device()), "PipelineStage: ", parameter.key(),
                " lies on ", parameter->device(), ", other parts of the stage on ", *device);
    device = parameter->device();
  }
}

void check_alike(const ProcessGroup& group, const std::string& own) {
  const auto texts = exchange_texts(group, own);
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    TORCH_CHECK(texts[rank] == texts[0], "PipelineStage: rank 0 has ", texts[0], ", rank ", rank, " has ", texts[rank]);
  }
}

/// Gives the last stage the values of the first one. Equal values are not written: they may be pages of a file.
void take_from_first(const ProcessGroup& group, const at::Tensor& table) {
  const auto values = table.detach().to(group.device()).contiguous();
  if (group.rank() == 0) {
    group.send(values, group.size() - 1).wait();
    return;
  }
  const auto first = at::empty_like(values);
  group.recv(first, 0).wait();
  if (!first.equal(values)) {
    table.detach().copy_(first);
  }
}

}  // namespace

std::vector<BlockRange> split_blocks(int64_t num_blocks, int64_t num_stages) {
  TORCH_CHECK(num_stages > 0 && num_stages <= num_blocks, "split_blocks: ", num_blocks, " blocks cannot be split over ",
              num_stages, " stages");
  std::vector<BlockRange> ranges;
  int64_t begin = 0;
  for (int64_t stage = 0; stage < num_stages; ++stage) {
    const auto end = begin + num_blocks / num_stages + (stage < num_blocks % num_stages ? 1 : 0);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

DeviceMap stage_device_map(PreTrainedModel& model, int64_t stage_index, int64_t num_stages, c10::Device device) {
  const auto layers = model.base_model().structure().layers;
  const auto ranges = split_blocks(static_cast<int64_t>(layers.size()), num_stages);
  TORCH_CHECK(stage_index >= 0 && stage_index < num_stages, "stage_device_map: stage ", stage_index, " is not among ",
              num_stages);
  std::map<const torch::nn::Module*, int64_t> stages{{model.get_input_embeddings().get(), 0}};
  for (int64_t stage = 0; stage < num_stages; ++stage) {
    const auto& range = ranges[static_cast<size_t>(stage)];
    for (auto i = range.begin; i < range.end; ++i) {
      for (const auto& module : layers[static_cast<size_t>(i)].block->modules()) {
        stages[module.get()] = stage;
      }
    }
  }
  DeviceMap map{{"", c10::Device(c10::kMeta)}};
  for (const auto& entry : model.named_modules()) {
    const auto found = stages.find(entry.value().get());
    const auto stage = found == stages.end() ? num_stages - 1 : found->second;
    if (stage == stage_index && !entry.value()->parameters(/*recurse=*/false).empty()) {
      map.insert_or_assign(entry.key(), device);
    }
  }
  return map;
}

PipelineStage::PipelineStage(std::shared_ptr<CausalLM> model, const ProcessGroup& group)
    : model_(std::move(model)), group_(group) {
  std::unordered_set<const void*> own;
  together(group_, [&] {
    own = tensors_of_stage(*model_, stage_device_map(*model_, stage_index(), num_stages(), c10::kCPU));
    check_values(*model_, own);
  });
  check_alike(group_, description(*model_));
  for (auto& parameter : model_->parameters()) {
    if (!own.contains(parameter.unsafeGetTensorImpl()) && !parameter.is_meta()) {
      assign_tensor(parameter, at::empty_like(parameter, at::kMeta));
    }
  }
  model_->base_model().run_blocks(
      split_blocks(model_->config().get_num_hidden_layers(), num_stages())[static_cast<size_t>(stage_index())]);
  if (const auto table = shared_embeddings(); table.defined()) {
    take_from_first(group_, table);
  }
}

std::vector<at::Tensor> PipelineStage::parameters() const {
  std::vector<at::Tensor> own;
  std::unordered_set<const void*> seen;
  for (const auto& parameter : model_->parameters()) {
    if (!parameter.is_meta() && seen.insert(parameter.unsafeGetTensorImpl()).second) {
      own.push_back(parameter);
    }
  }
  return own;
}

at::Tensor PipelineStage::shared_embeddings() const {
  const auto& table = model_->get_input_embeddings()->weight;
  const bool is_shared = num_stages() > 1 && (is_first() || is_last());
  return is_shared && table.is_same(model_->get_output_embeddings()->weight) ? table : at::Tensor();
}

at::Tensor PipelineStage::forward_one_chunk(const at::Tensor& hidden_states, ModelInputs inputs,
                                            const CausalLMOptions& options) const {
  if (!is_first()) {
    inputs.input_ids = at::Tensor();
    inputs.token_type_ids = at::Tensor();
    inputs.inputs_embeds = hidden_states;
  }
  inputs.use_cache = false;
  return is_last() ? model_->forward(inputs, options).loss : model_->base_model().forward(inputs).last_hidden_state;
}

}  // namespace transformers
