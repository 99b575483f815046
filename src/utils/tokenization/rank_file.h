#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "utils/tokenization/bpe.h"

namespace transformers::tokenization {

/// Whether the text begins like a rank file: a line of base64, a space and a number.
bool looks_like_rank_file(std::string_view text);

/// The model that a rank file describes. Tiktoken joins the pair whose joined bytes have the lowest rank; equivalent
/// merges are computed as by HF `TikTokenConverter`.
std::unique_ptr<Bpe> make_bpe_from_ranks(std::string_view text, const std::string& source);

}  // namespace transformers::tokenization
