#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Combines samples into a batch.
using DataCollator = std::function<Batch(const std::vector<Batch>& samples)>;

/// Pads on the right to the longest sample, or up to a multiple: input_ids with `pad_token_id`, attention_mask with 0
/// (made where samples have none), labels of tokens with −100; numbers ([] tensors, such as a class or the start and
/// end of an answer) and floating-point tensors (such as a text's [labels] of several) are stacked. Covers HF's
/// DataCollatorWithPadding, …ForSeq2Seq and …ForTokenClassification for training. Throws when the samples do not have
/// the same names.
DataCollator padding_collator(int64_t pad_token_id, int64_t pad_to_multiple_of = 1);

/// Concatenates all samples into one row without padding. Each begins again at position 0, which separates them in
/// attention, and its first label is −100. Mirrors HF `DataCollatorWithFlattening`.
DataCollator flattening_collator();

/// The number of next-token labels that count in a batch: the denominator of a token-weighted loss, HF's
/// `num_items_in_batch`.
int64_t count_items(const Batch& batch);

}  // namespace transformers
