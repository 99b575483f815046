#pragma once

#include <functional>
#include <string>

namespace transformers {

/// Calls `read`, which opens files of the folder through this library, again for as long as a save changes the folder
/// meanwhile. Afterwards all that it opened comes from one save. Finishes first what a save that died left to do. What
/// loads a tokenizer and a model of one folder is called so where the folder may be saved into at the same time.
void read_one_save(const std::string& folder, const std::function<void()>& read);

}  // namespace transformers
