// One row of the table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/release/tests/pipeline_table
//
// The ranks read their stages of a LLaMA's folder and take steps on one batch in micro-batches. Printed: peak memory of
// a rank above what it held before the model, bytes a rank sent in a step as the kernel counted them, and how far
// gradients and weights are from those of one process.
#include <torch/optim/sgd.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/pipeline/schedules.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <functional>

#include "utils/distributed/process_counters.h"

namespace {

using namespace transformers;
using testing::process_bytes;
using testing::sent_bytes;

constexpr int kSteps = 5;
constexpr int64_t kMicrobatches = 8;

LlamaConfig config() {
  LlamaConfig config;
  config.vocab_size = 2000;
  config.hidden_size = 256;
  config.intermediate_size = 688;
  config.num_hidden_layers = 8;
  config.num_attention_heads = 4;
  return config;
}

/// Written by rank 0, then there for all.
std::string saved_folder(const ProcessGroup& group) {
  const auto process = torch::full({1}, static_cast<int64_t>(getpid()), torch::kLong);
  group.broadcast(process, 0).wait();
  const auto parent =
      std::filesystem::temp_directory_path() / ("pipeline_table_" + std::to_string(process.item<int64_t>()));
  const auto folder = (parent / "model").string();
  if (group.rank() == 0) {
    std::filesystem::create_directories(parent);
    torch::manual_seed(1);
    LlamaForCausalLM(config())->save_pretrained(folder);
  }
  group.barrier();
  return folder;
}

/// `gradients` finds those of one step.
void train(const std::vector<at::Tensor>& parameters, const std::function<void()>& gradients) {
  torch::optim::SGD optimizer(parameters, 0.1);
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    gradients();
    optimizer.step();
  }
}

double largest_difference(const torch::nn::Module& whole, const PipelineStage& stage, bool of_gradients) {
  double largest = 0;
  const auto expected = whole.named_parameters();
  for (const auto& parameter : stage.model().named_parameters()) {
    if (parameter->is_meta()) {
      continue;
    }
    const auto& one = expected[parameter.key()];
    const auto difference = of_gradients ? parameter->grad() - one.grad() : parameter->detach() - one.detach();
    largest = std::max(largest, difference.abs().max().item<double>());
  }
  return largest;
}

/// The largest over the ranks.
double over_ranks(const ProcessGroup& group, double value) {
  const auto tensor = torch::full({1}, value, torch::kDouble);
  group.all_reduce(tensor, ReduceOp::kMax).wait();
  return tensor.item<double>();
}

int print_row() {
  const auto group = init_process_group();
  const auto folder = saved_folder(group);
  torch::manual_seed(2);
  const auto batch = torch::randint(config().vocab_size, {8, 64}, torch::kLong);
  testing::forget_peak();
  const auto before = process_bytes("VmRSS");
  const auto stage = load_pipeline_stage<LlamaForCausalLM>(folder, group);
  stage.model().train();
  Schedule1F1B schedule(stage, kMicrobatches);
  const CausalLMOptions options{.labels = batch, .loss_chunk_rows = 256};
  const auto sent_before = sent_bytes();
  train(stage.parameters(), [&] { schedule.step({.input_ids = batch}, options); });
  const auto sent = over_ranks(group, static_cast<double>(sent_bytes() - sent_before) / kSteps);
  const auto memory = over_ranks(group, static_cast<double>(process_bytes("VmHWM") - before));

  auto alone = LlamaForCausalLM::from_pretrained(folder);
  alone->train();
  train(alone->parameters(),
        [&] { alone->forward({.input_ids = batch, .use_cache = false}, options).loss.backward(); });
  const auto gradients = over_ranks(group, largest_difference(*alone, stage, /*of_gradients=*/true));
  const auto weights = over_ranks(group, largest_difference(*alone, stage, /*of_gradients=*/false));
  if (group.rank() == 0) {
    std::printf("| pipeline, 1F1B | %d | %.1f MB | %.2f MB | %.1e | %.1e |\n", static_cast<int>(group.size()),
                memory / 1e6, sent / 1e6, gradients, weights);
    std::filesystem::remove_all(std::filesystem::path(folder).parent_path());
  }
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main() { return transformers::record(print_row); }
