#include "utils/distributed/gradient_hook.h"

#include "utils/distributed/internal/c10d_handles.h"
#include "utils/distributed/internal/collective_error.h"

namespace transformers {

c10::intrusive_ptr<c10::ivalue::Future> AverageGradients::runHook(c10d::GradBucket& bucket) {
  if (bucket.isLast()) {
    on_last_();
  }
  const auto& gradients = bucket.getBuffer();
  const auto message = dtype_ && gradients.layout() == at::kStrided ? gradients.to(*dtype_) : gradients;
  // Gradients are divided before they are added, so that the sum remains in the range of a small dtype.
  message.div_(group_.size());
  const auto rank = group_.rank();
  const auto size = group_.size();
  const std::string operation = "averaging gradients";
  std::vector<at::Tensor> tensors = {message};
  const auto work = naming_rank(rank, size, operation, [&] { return group_.handle().group->allreduce(tensors); });
  return work->getFuture()->then(
      [=](c10::ivalue::Future& done) -> c10::IValue {
        naming_rank(rank, size, operation, [&] { done.value(); });  // rethrows
        if (!message.is_same(gradients)) {
          gradients.copy_(message);
        }
        return gradients;
      },
      c10::TensorType::get());
}

}  // namespace transformers
