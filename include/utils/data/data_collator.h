#pragma once

#include <transformers/export.h>
#include <transformers/utils/data/dataset.h>

#include <functional>

namespace TRANSFORMERS_API transformers {

/// Makes a batch of samples.
using DataCollator = std::function<Batch(const std::vector<Batch>& samples)>;

/// Pads on the right to the longest sample, or up to a multiple: input_ids with `pad_token_id`, attention_mask with 0
/// (made where samples have none), labels of tokens with −100; numbers ([] tensors, such as a class or the start and
/// end of an answer) and floating-point tensors (such as a text's [labels] of several) are stacked. Does for training
/// what HF's DataCollatorWithPadding, …ForSeq2Seq and …ForTokenClassification do. Throws when samples differ in their
/// names.
DataCollator padding_collator(int64_t pad_token_id, int64_t pad_to_multiple_of = 1);

/// All samples in one row without padding, each beginning again at position 0, which keeps them apart in attention;
/// the first label of each is −100. Mirrors HF `DataCollatorWithFlattening`.
DataCollator flattening_collator();

/// Next-token labels that count in a batch: the denominator of a token-weighted loss, HF's `num_items_in_batch`.
int64_t count_items(const Batch& batch);

}  // namespace transformers
