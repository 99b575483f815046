// One row of the table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/dev/tests/pipeline_table
//
// The ranks read their stages of a LLaMA's folder and take steps on one batch in micro-batches. Printed: peak memory of
// a rank above what it held before the model, bytes a rank sent in a step as the kernel counted them, and how far
// gradients and weights are from those of one process.
#include <torch/optim/sgd.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/pipeline/schedules.h>

#include <cstdio>
#include <filesystem>
#include <functional>

#include "utils/distributed/process_counters.h"
#include "utils/distributed/table_model.h"

namespace {

using namespace transformers;
using testing::over_ranks;
using testing::process_bytes;
using testing::saved_table_model;
using testing::sent_bytes;
using testing::table_batch;

constexpr int kSteps = 5;
constexpr int64_t kMicrobatches = 8;

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

int print_row() {
  const auto group = init_process_group();
  const auto folder = saved_table_model(group);
  const auto batch = table_batch();
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
    std::filesystem::remove_all(folder);
  }
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main() { return transformers::record(print_row); }
