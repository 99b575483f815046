#include <ATen/ATen.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/distillation.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

TEST(DistillationTest, LossAndGradientEqualTheWrittenOutFormula) {
  for (const auto& golden : golden_cases("lora", "distillation")) {
    SCOPED_TRACE(golden.name);
    const auto student = golden.tensor("student").clone().requires_grad_();
    const auto loss =
        distillation_loss(student, golden.tensor("teacher"), golden.tensor("labels"),
                          {.temperature = golden.get<double>("temperature"), .alpha = golden.get<double>("alpha")},
                          golden.optional<double>("num_items"));
    loss.backward();
    EXPECT_TENSORS_CLOSE(loss.detach(), golden.tensor("loss"));
    EXPECT_TENSORS_CLOSE(student.grad(), golden.tensor("grad"));
  }
}

TEST(DistillationTest, AStudentComesToSayWhatItsTeacherSays) {
  const auto teacher = tiny_model(tiny_gptj());
  const auto student = tiny_model(tiny_llama());
  const auto ids = tiny_ids(3, 6);
  const auto task = distillation_task(*student, *teacher, {.alpha = 1});
  const Batch batch{{"input_ids", ids}, {"labels", ids}};
  const auto items = static_cast<double>(task.count_items(batch));
  AdamW optimizer(trainable_parameters(*student), torch::optim::AdamWOptions(1e-2));
  const auto first = task.loss(batch, items).item<double>();
  for (int i = 0; i < 40; ++i) {
    optimizer.zero_grad();
    task.loss(batch, items).backward();
    optimizer.step();
  }
  EXPECT_LT(task.loss(batch, items).item<double>(), 0.2 * first);
  for (const auto& parameter : teacher->parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

TEST(DistillationTest, RefusesWhatMakesNoSense) {
  const auto logits = at::zeros({1, 3, 4}), labels = at::zeros({1, 3}, at::kLong);
  EXPECT_ERROR(distillation_loss(logits, logits, labels, {.temperature = 0}), "temperature must be positive", "0");
  EXPECT_ERROR(distillation_loss(logits, logits, labels, {.alpha = 1.5}), "alpha must lie in [0, 1]", "1.5");
  EXPECT_ERROR(distillation_loss(logits, at::zeros({1, 3, 5}), labels), "one shape", "[1, 3, 5]", "[1, 3, 4]");
  EXPECT_ERROR(distillation_loss(logits, logits, at::zeros({1, 2}, at::kLong)), "labels", "[1, 2]");
  const auto model = tiny_model(tiny_llama());
  EXPECT_ERROR(distillation_task(*model, *model).loss({{"pixels", logits}, {"labels", labels}}, 1), "pixels");
}

}  // namespace
}  // namespace transformers::testing
