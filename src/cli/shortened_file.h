#pragma once

namespace transformers::cli {

/// From now on a mapped model file that another program cuts shorter ends the process as any failure does: with one
/// line that names the file, and status 1.
void report_shortened_files();

}  // namespace transformers::cli
