#include "utils/tokenization/token_model.h"

#include "utils/tokenization/bpe.h"
#include "utils/tokenization/unigram.h"

namespace transformers::tokenization {

std::unique_ptr<TokenModel> make_token_model(const JsonNode& node) {
  // Files of old versions have no type; their model is BPE.
  const auto type = node.optional_text("type").value_or("BPE");
  if (type == "BPE") {
    return make_bpe(node);
  }
  if (type == "Unigram") {
    return make_unigram(node);
  }
  unsupported_component(node, "model " + type);
}

}  // namespace transformers::tokenization
