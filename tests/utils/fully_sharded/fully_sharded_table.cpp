// One row of a table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/dev/tests/fully_sharded_table [LAYERS [adamw]]
//
// A LLaMA, of 8 layers where nothing else is said, takes SGD or AdamW steps on one batch that the ranks share. Printed:
// peak memory of a rank above what it held before the model, with AdamW also what it held between steps, bytes a rank
// sent in a step as the kernel counted them, and how far gradients and weights are from those of one process with the
// whole batch.
#include <malloc.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>
#include <transformers/utils/optim/optimizer.h>

#include <cstdio>
#include <cstring>
#include <filesystem>

#include "utils/distributed/process_counters.h"
#include "utils/distributed/table_model.h"
#include "utils/fully_sharded/own_rows.h"

namespace {

using namespace transformers;
using testing::over_ranks;
using testing::own_rows;
using testing::process_bytes;
using testing::saved_table_model;
using testing::sent_bytes;
using testing::table_batch;

constexpr int kSteps = 5;

std::unique_ptr<torch::optim::Optimizer> optimizer_for(const torch::nn::Module& model, bool adamw) {
  if (adamw) {
    return std::make_unique<AdamW>(model.parameters(), torch::optim::AdamWOptions(1e-4).eps(1e-6));
  }
  return std::make_unique<torch::optim::SGD>(model.parameters(), 0.1);
}

at::Tensor loss_of(LlamaForCausalLMImpl& model, const at::Tensor& ids) {
  return model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
}

template <typename Loss>
std::unique_ptr<torch::optim::Optimizer> train(const torch::nn::Module& model, bool adamw, const Loss& loss) {
  auto optimizer = optimizer_for(model, adamw);
  for (int step = 0; step < kSteps; ++step) {
    optimizer->zero_grad();
    loss().backward();
    optimizer->step();
  }
  return optimizer;
}

double largest_difference(const torch::nn::Module& whole, const FullyShardedModule& sharded, bool of_gradients) {
  double largest = 0;
  const auto expected = whole.named_parameters();
  for (const auto& own : sharded.sharded_parameters()) {
    const auto& parameter = expected[own.name];
    const auto difference = of_gradients ? own.parameter.grad() - own_rows(parameter.grad(), own)
                                         : own.parameter - own_rows(parameter, own);
    largest = difference.numel() > 0 ? std::max(largest, difference.abs().max().item<double>()) : largest;
  }
  return largest;
}

/// A line of /proc/self/status, when glibc has given back what it can.
double memory_now(const std::string& field) {
  malloc_trim(0);
  return static_cast<double>(process_bytes(field));
}

/// Beyond a rank's share of weights, gradients and states, what it may hold between steps: what LibTorch keeps for
/// itself, buffers of the connections, messages of which glibc has not given back the pages.
constexpr double kHeldSlack = 16e6;
/// What it may hold besides at the peak: its share of the batch's activations, and the root unit, a layer, its message
/// and its gradients whole, beside the code of LibTorch.
constexpr double kActivationsOfALayer = 8e6, kPeakSlack = 55e6;

/// Weights, gradients and optimizer states of the whole model.
double bytes_of_training(const torch::nn::Module& whole, bool adamw) {
  double weights = 0;
  for (const auto& parameter : whole.parameters()) {
    weights += static_cast<double>(parameter.nbytes());
  }
  return (adamw ? 4 : 2) * weights;
}

struct Memory {
  double training, activations;  // of one process
  double held, peak;             // of a rank
};

/// A sanitizer keeps what is freed.
void check_memory([[maybe_unused]] const Memory& memory, [[maybe_unused]] double ranks) {
#ifndef __SANITIZE_ADDRESS__
  const auto most_held = memory.training / ranks + kHeldSlack;
  const auto most = (memory.training + memory.activations) / ranks + kPeakSlack;
  TORCH_CHECK(memory.held <= most_held, "between steps a rank may hold ", most_held / 1e6, " MB, found ",
              memory.held / 1e6);
  TORCH_CHECK(memory.peak <= most, "at its peak a rank may hold ", most / 1e6, " MB, found ", memory.peak / 1e6);
#endif
}

int print_row(int64_t layers, bool adamw) {
  const auto group = init_process_group();
  const auto folder = saved_table_model(group, layers);
  const auto batch = table_batch();
  const auto share = batch.chunk(group.size())[group.rank()];
  const auto before = memory_now("VmRSS"), allocated_before = memory_now("RssAnon");
  testing::forget_peak();
  FullyShardedDataParallel model(LlamaForCausalLM::from_pretrained(folder).ptr());
  const auto sent_before = sent_bytes();
  auto optimizer =
      train(model.module(), adamw, [&] { return model.run([&](auto& module) { return loss_of(module, share); }); });
  const auto sent = over_ranks(group, static_cast<double>(sent_bytes() - sent_before) / kSteps);
  const auto peak = over_ranks(group, static_cast<double>(process_bytes("VmHWM")) - before);
  const auto held = over_ranks(group, memory_now("VmRSS") - before);
  const auto allocated = over_ranks(group, memory_now("RssAnon") - allocated_before);

  auto alone = LlamaForCausalLM::from_pretrained(folder);
  train(*alone, adamw, [&] { return loss_of(*alone, batch); });
  const auto gradients = over_ranks(group, largest_difference(*alone, model, /*of_gradients=*/true));
  const auto weights = over_ranks(group, largest_difference(*alone, model, /*of_gradients=*/false));
  if (group.rank() == 0) {
    std::printf("| fully sharded | %d | %.1f MB | ", static_cast<int>(group.size()), peak / 1e6);
    if (adamw) {
      std::printf("%.1f MB | ", held / 1e6);
    }
    std::printf("%.2f MB | %.1e | %.1e |\n", sent / 1e6, gradients, weights);
    std::filesystem::remove_all(folder);
  }
  check_memory({.training = bytes_of_training(*alone, adamw),
                .activations = static_cast<double>(layers) * kActivationsOfALayer,
                .held = allocated,
                .peak = peak},
               static_cast<double>(group.size()));
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return transformers::record(
      [&] { return print_row(argc > 1 ? std::atoi(argv[1]) : 8, argc > 2 && std::strcmp(argv[2], "adamw") == 0); });
}
