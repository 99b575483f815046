#include <transformers/auto/modeling_auto.h>

#include <cstdlib>

#include "fuzz/target.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  return {
      R"({"model_type":"llama","vocab_size":40,"hidden_size":24,"num_attention_heads":4,"num_key_value_heads":2,)"
      R"("rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1,"high_freq_factor":4.0,)"
      R"("original_max_position_embeddings":8},"eos_token_id":[2,5],"torch_dtype":"bfloat16","x":{"a":[1,null]}})",
      R"({"model_type":"llama","rope_parameters":{"rope_type":"longrope","rope_theta":1e4,"short_factor":[1.0],)"
      R"("long_factor":[2.0],"factor":2.0},"head_dim":2,"pruned_heads":{"0":[1]},"id2label":{"0":"a","1":"b","2":"c"}})",
      R"({"model_type":"gptj","n_embd":24,"n_head":3,"n_layer":2,"rotary_dim":4,"n_inner":null,"hidden_size":24,)"
      R"("activation_function":"gelu_new","pad_token_id":-1,"problem_type":"regression","intermediate_sizes":[4,8]})"};
}

void try_input(std::string_view input) {
  const auto text = AutoConfig::from_json(input, "input")->to_json();
  // What was taken is written so that it is taken again.
  try {
    if (AutoConfig::from_json(text, "written")->to_json() != text) {
      std::abort();
    }
  } catch (const c10::Error&) {
    std::abort();
  }
}

}  // namespace transformers::fuzz
