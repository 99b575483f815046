#include <ATen/ATen.h>
#include <transformers/utils/modeling/pretrained_model.h>

namespace transformers {
namespace {

/// Rows drawn around the mean of the old ones. HF: covariance times 1e-9, and the mean itself where that is not
/// positive definite.
at::Tensor rows_around_mean(const at::Tensor& old, int64_t rows) {
  const auto values = old.to(at::kFloat);
  const auto mean = values.mean(0, /*keepdim=*/true);
  const auto centered = values - mean;
  const auto covariance = at::mm(centered.t(), centered) / values.size(0) * 1e-9;
  const auto [factor, info] = at::linalg_cholesky_ex(covariance);
  if (info.item<int64_t>() != 0) {
    return mean.expand({rows, -1}).to(old.scalar_type());
  }
  const auto noise = at::mm(at::randn({rows, values.size(1)}, values.options()), factor.t());
  return (mean + noise).to(old.scalar_type());
}

at::Tensor resized_rows(const at::Tensor& old, int64_t rows, bool around_mean, double initializer_range) {
  if (rows <= old.size(0)) {
    return old.narrow(0, 0, rows).clone();
  }
  const auto added = rows - old.size(0);
  const auto fresh = around_mean ? rows_around_mean(old, added)
                                 : at::empty({added, old.size(1)}, old.options()).normal_(0.0, initializer_range);
  return at::cat({old, fresh});
}

at::Tensor resized_bias(const at::Tensor& old, int64_t rows, bool around_mean) {
  if (!old.defined() || rows <= old.size(0)) {
    return old.defined() ? old.narrow(0, 0, rows).clone() : old;
  }
  const auto added = rows - old.size(0);
  const auto fresh = around_mean ? old.mean().expand({added}) : at::zeros({added}, old.options());
  return at::cat({old, fresh});
}

}  // namespace

Embedding PreTrainedModel::resize_token_embeddings(std::optional<int64_t> new_num_tokens,
                                                   const ResizeOptions& options) {
  auto embeddings = get_input_embeddings();
  if (!new_num_tokens && !options.pad_to_multiple_of) {
    return embeddings;
  }
  auto rows = new_num_tokens.value_or(embeddings->weight.size(0));
  if (const auto multiple = options.pad_to_multiple_of) {
    TORCH_CHECK(*multiple > 0, "pad_to_multiple_of must be above 0, got ", *multiple);
    rows = (rows + *multiple - 1) / *multiple * *multiple;
  }
  check_size("new_num_tokens", rows);
  check_unplaced();
  auto output = get_output_embeddings();
  if (output) {
    check_plain_product("output embeddings", *output);
  }
  // If the padding token has a row of its own, a model without that row could be saved but not loaded again.
  const auto padding = embeddings->options.padding_idx();
  TORCH_CHECK(!padding || *padding < rows, "new_num_tokens must be above pad_token_id, got ", rows, " and ", *padding);
  const at::NoGradGuard no_grad;
  const auto range = config().initializer_range;
  embeddings->set_weight(resized_rows(embeddings->weight, rows, options.mean_resizing, range));
  if (output) {
    output->set_parameters(resized_rows(output->weight, rows, options.mean_resizing, range),
                           resized_bias(output->bias, rows, options.mean_resizing));
  }
  config().vocab_size = rows;
  tie_weights();
  return embeddings;
}

}  // namespace transformers
