#include <transformers/utils/training/lora_config.h>

#include "fuzz/target.h"

namespace transformers::fuzz {

std::vector<std::string> seeds() {
  return {
      R"({"peft_type":"LORA","task_type":"CAUSAL_LM","r":4,"lora_alpha":8,"lora_dropout":0.1,"bias":"none",)"
      R"("target_modules":["q_proj","v_proj"],"rank_pattern":{"q_proj":2},"alpha_pattern":{},"use_dora":true,)"
      R"("modules_to_save":["lm_head"],"layers_to_transform":[0,1],"init_lora_weights":true,"inference_mode":true})",
      R"({"peft_type":"LORA","target_modules":"all-linear","exclude_modules":".*k_proj","use_rslora":false,)"
      R"("fan_in_fan_out":false,"base_model_name_or_path":"base","modules_to_save":null,"x":1})"};
}

void try_input(std::string_view input) { LoraConfig::from_json(input, "input").to_json(); }

}  // namespace transformers::fuzz
