// One row of the table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/dev/tests/tensor_parallel_table
//
// The ranks read their slices of a LLaMA's folder and take steps on one batch. Printed: peak memory of a rank above
// what it held before the model, bytes a rank sent in a step as the kernel counted them, and how far gradients and
// weights are from those of one process.
#include <torch/optim/sgd.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include <cstdio>
#include <filesystem>

#include "utils/distributed/process_counters.h"
#include "utils/distributed/table_model.h"
#include "utils/tensor_parallel/slices.h"

namespace {

using namespace transformers;
using testing::over_ranks;
using testing::own_slice;
using testing::process_bytes;
using testing::saved_table_model;
using testing::sent_bytes;
using testing::table_batch;

constexpr int kSteps = 5;

void train(LlamaForCausalLM& model, const at::Tensor& ids) {
  model->train();
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids, .loss_chunk_rows = 256}).loss.backward();
    optimizer.step();
  }
}

double largest_difference(const torch::nn::Module& whole, const torch::nn::Module& split,
                          const TensorParallel& parallel, bool of_gradients) {
  double largest = 0;
  const auto slices = split.named_parameters();
  for (const auto& parameter : whole.named_parameters()) {
    const auto& slice = slices[parameter.key()];
    const auto expected = own_slice(of_gradients ? parameter->grad() : *parameter, parameter.key(), parallel);
    const auto difference = (of_gradients ? slice.grad() : slice) - expected;
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
  auto [model, parallel] = load_tensor_parallel<LlamaForCausalLM>(folder, group);
  const auto sent_before = sent_bytes();
  train(model, batch);
  const auto sent = over_ranks(group, static_cast<double>(sent_bytes() - sent_before) / kSteps);
  const auto memory = over_ranks(group, static_cast<double>(process_bytes("VmHWM") - before));

  auto alone = LlamaForCausalLM::from_pretrained(folder);
  train(alone, batch);
  const auto gradients = over_ranks(group, largest_difference(*alone, *model, parallel, /*of_gradients=*/true));
  const auto weights = over_ranks(group, largest_difference(*alone, *model, parallel, /*of_gradients=*/false));
  if (group.rank() == 0) {
    std::printf("| tensor-parallel | %d | %.1f MB | %.2f MB | %.1e | %.1e |\n", static_cast<int>(group.size()),
                memory / 1e6, sent / 1e6, gradients, weights);
    std::filesystem::remove_all(folder);
  }
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main() { return transformers::record(print_row); }
