#include <ATen/ATen.h>
#include <transformers/utils/data/data_collator.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/peft/peft_model.h>
#include <transformers/utils/training/trainer.h>
#include <transformers/utils/training/training_tasks.h>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

/// A run of the trainer on an adapter with dropout, which is saved in the middle and may go on from there.
struct AdapterRun {
  std::shared_ptr<CausalLM> model = tiny_model(tiny_gptj());
  PeftModel adapters{model};
  std::unique_ptr<AdamW> optimizer{};
  std::unique_ptr<LRScheduler> scheduler{};
  std::unique_ptr<BatchLoader> data{};
  std::unique_ptr<Trainer> trainer{};
  std::vector<double> losses{};

  /// Of a fresh adapter, or of the one in a checkpoint.
  explicit AdapterRun(const std::string& output_dir, const std::string& checkpoint = "") {
    if (checkpoint.empty()) {
      adapters->add_adapter("default", {.r = 4, .lora_dropout = 0.2, .modules_to_save = {"lm_head"}});
    } else {
      adapters->load_adapter("default", checkpoint, {.is_trainable = true});
    }
    at::manual_seed(11);
    const auto ids = at::randint(1, 40, {10, 6}, at::kLong);
    optimizer = std::make_unique<AdamW>(trainable_parameters(*adapters), torch::optim::AdamWOptions(1e-2));
    scheduler = get_scheduler(SchedulerType::kLinear, *optimizer, {.num_training_steps = 12});
    data = std::make_unique<BatchLoader>(std::make_shared<TensorDataset>(Batch{{"input_ids", ids}, {"labels", ids}}),
                                         padding_collator(0), BatchLoaderOptions{.batch_size = 5});
    const auto on_step = [this](const TrainingLog& log) {
      losses.push_back(log.loss);
      return true;
    };
    trainer = std::make_unique<Trainer>(
        *adapters, causal_lm_task(*model), *optimizer, *scheduler,
        TrainingArguments{.max_steps = 12, .output_dir = output_dir, .save_steps = 6},
        TrainerCallbacks{.on_step = on_step,
                         .write_model = [this](const std::string& folder) { adapters->save_pretrained(folder); }});
  }
};

TEST(PeftTrainerTest, ARunOnAnAdapterGoesOnBitForBit) {
  const TemporaryFolder folder;
  AdapterRun whole(folder / "whole");
  const auto before = state_dict(*whole.model)["transformer.h.0.attn.q_proj.weight"].clone();
  whole.trainer->train(*whole.data);
  EXPECT_LT(whole.losses.back(), whole.losses.front());
  EXPECT_TENSORS_EQUAL(state_dict(*whole.model)["transformer.h.0.attn.q_proj.weight"], before);

  const auto checkpoint = folder / "whole/checkpoint-6";
  AdapterRun resumed(folder / "resumed", checkpoint);
  resumed.trainer->resume(checkpoint, *resumed.data);
  resumed.trainer->train(*resumed.data);
  EXPECT_EQ(resumed.losses, std::vector<double>(whole.losses.begin() + 6, whole.losses.end()));
  const auto expected = whole.adapters->get_peft_model_state_dict();
  for (const auto& item : resumed.adapters->get_peft_model_state_dict()) {
    SCOPED_TRACE(item.key());
    EXPECT_TENSORS_EQUAL(item.value(), expected[item.key()]);
  }
}

}  // namespace
}  // namespace transformers::testing
