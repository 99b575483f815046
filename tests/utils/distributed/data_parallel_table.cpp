// One row of the table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/dev/tests/data_parallel_table
//
// A LLaMA takes steps on one batch that the ranks share. Printed: peak memory of a rank above what it held before the
// model, bytes a rank sent in a step as the kernel counted them, and how far gradients and weights are from those of
// one process with the whole batch.
#include <torch/optim/sgd.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/distributed/torchrun.h>

#include <cstdio>

#include "utils/distributed/process_counters.h"
#include "utils/distributed/table_model.h"

namespace {

using namespace transformers;
using testing::fresh_table_model;
using testing::over_ranks;
using testing::process_bytes;
using testing::sent_bytes;
using testing::table_batch;

constexpr int kSteps = 5;

template <typename Forward>
void train(LlamaForCausalLM& model, const Forward& loss) {
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    loss().backward();
    optimizer.step();
  }
}

at::Tensor loss_of(LlamaForCausalLMImpl& model, const at::Tensor& ids) {
  return model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
}

double largest_difference(const torch::nn::Module& first, const torch::nn::Module& second, bool of_gradients) {
  double largest = 0;
  const auto others = second.named_parameters();
  for (const auto& parameter : first.named_parameters()) {
    const auto& other = others[parameter.key()];
    const auto difference = of_gradients ? parameter->grad() - other.grad() : *parameter - other;
    largest = std::max(largest, difference.abs().max().item<double>());
  }
  return largest;
}

int print_row() {
  const auto group = init_process_group();
  const auto before = process_bytes("VmRSS");
  auto replica = fresh_table_model();
  const auto batch = table_batch();
  const auto share = batch.chunk(group.size())[group.rank()];
  DistributedDataParallel model(replica.ptr());
  const auto sent_before = sent_bytes();
  train(replica, [&] { return model.run([&](auto& module) { return loss_of(module, share); }); });
  const auto sent = over_ranks(group, static_cast<double>(sent_bytes() - sent_before) / kSteps);
  const auto memory = over_ranks(group, static_cast<double>(process_bytes("VmHWM") - before));

  auto alone = fresh_table_model();
  train(alone, [&] { return loss_of(*alone, batch); });
  const auto gradients = over_ranks(group, largest_difference(*alone, *replica, /*of_gradients=*/true));
  const auto weights = over_ranks(group, largest_difference(*alone, *replica, /*of_gradients=*/false));
  if (group.rank() == 0) {
    std::printf("| data-parallel | %d | %.1f MB | %.2f MB | %.1e | %.1e |\n", static_cast<int>(group.size()),
                memory / 1e6, sent / 1e6, gradients, weights);
  }
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main() { return transformers::record(print_row); }
