#include "utils/training/training_state.h"

#include "fuzz/scratch_folder.h"
#include "fuzz/target.h"

namespace transformers::fuzz {

void try_input(std::string_view input) {
  static const ScratchFolder folder;
  folder.write(kTrainingStateFile, input);
  load_training_state(folder.path());
}

}  // namespace transformers::fuzz
