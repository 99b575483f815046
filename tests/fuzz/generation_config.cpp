#include <c10/util/Exception.h>
#include <transformers/utils/modeling/generation_config.h>

#include <cstdlib>

#include "fuzz/target.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  return {R"({"bad_words_ids":[[1,2],[3]],"early_stopping":"never","eos_token_id":[2,5],"temperature":0.7,"top_k":20,)"
          R"("exponential_decay_length_penalty":[3,1.5],"sequence_bias":[[[8,9],-1.5]],"stop_strings":["a","b"],)"
          R"("watermarking_config":{"greenlist_ratio":0.5,"seeding_scheme":"selfhash"},"x":{"kept":[1,2]}})",
          R"({"eos_token_id":[],"pad_token_id":-1,"forced_eos_token_id":7,"suppress_tokens":[10],"max_length":50,)"
          R"("do_sample":true,"num_beams":4,"num_return_sequences":2,"transformers_version":"5.23.0","min_p":null})"};
}

void try_input(std::string_view input) {
  const auto text = GenerationConfig::from_json(input, "input").to_json();
  // What was taken is written so that it is taken again.
  try {
    if (GenerationConfig::from_json(text, "written").to_json() != text) {
      std::abort();
    }
  } catch (const c10::Error&) {
    std::abort();
  }
}

}  // namespace transformers::fuzz
